"""Sound to codes and back, window by window: hours of it never lie in memory at once.

A window is computed together with some frames before and after it, which are dropped again, so that what comes out is
what the whole at once would give. The convolutions reach no farther (lac/model/lac.py and lac/nn/layers.py; kernels'
halves times dilations, each times the samples from one position to the next):

- of the encoder 3, then 3 (1 + 3 + 9) = 39 in each block and its convolution of twice its rate, for the rates 2, 6, 8
  and 8, and a frame at the end: 5539 samples on both sides of a frame, 7.2 frames;
- of the decoder 3 frames, then in each block its transposed convolution of twice its rate and 5 (1 + 3 + 5) + 3 · 5
  = 60, for the rates 6, 4, 4, 2, 2 and 2, and 3 at the end: 18 frames on both sides.

At the ends of the recording there is nothing around: there the networks fill up by themselves, as with the whole.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from onnxruntime import InferenceSession

from models.vampnet.inputs import HOP

WINDOW = 512  # frames: 9 seconds
ENCODER_CONTEXT = 8  # frames on both sides
DECODER_CONTEXT = 18


def encode(encoder: InferenceSession, sound: Iterable[np.ndarray], window: int = WINDOW,
           context: int = ENCODER_CONTEXT) -> Iterator[np.ndarray]:
    """The codes of a recording, int64 [14, frames] of each window; the last frame is filled up with 0.

    sound: float32 pieces of any length at 44.1 kHz. window, context: frames. No sound has no codes.
    """
    held, before = np.zeros(0, np.float32), 0  # the sound from some frames before the next window on
    for piece in sound:
        held = np.concatenate([held, piece])
        while len(held) >= (before + window + context) * HOP:
            yield codes_of(encoder, held[:(before + window + context) * HOP])[:, before:before + window]
            behind = max(0, before + window - context)
            held, before = held[behind * HOP:], before + window - behind
    if len(held) > before * HOP:
        yield codes_of(encoder, held)[:, before:]


def codes_of(encoder: InferenceSession, sound: np.ndarray) -> np.ndarray:
    return encoder.run(["codes"], {"audio": sound[None]})[0][0]


def decode(decoder: InferenceSession, codes: np.ndarray, window: int = WINDOW,
           context: int = DECODER_CONTEXT) -> Iterator[np.ndarray]:
    """The sound of codes, float32 pieces at 44.1 kHz, 768 samples a frame.

    codes: int64 [14, frames]. window, context: frames.
    """
    frames = codes.shape[1]
    for start in range(0, frames, window):
        end = min(start + window, frames)
        first = max(0, start - context)
        [sound] = decoder.run(["audio"], {"codes": codes[None, :, first:end + context]})[0]
        yield sound[(start - first) * HOP:(end - first) * HOP]
