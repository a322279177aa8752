"""Sound as VampNet's player takes and gives it: pieces of one channel at 44.1 kHz, made as loud as wanted.

What is done to it is upstream's: _preprocess in vampnet/interface.py, and _vamp_internal in app.py.
"""

import errno
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile
import soxr

from models.vampnet.inputs import RATE
from scripts import audio
from scripts.job import Refusal

PIECE = 1 << 18  # bytes read at a time
Pieces = Iterable[np.ndarray]  # float32 [samples] of any length, mono, at 44.1 kHz
Sound = Callable[[], Iterator[np.ndarray]]  # such pieces, from the start at each call


class Level(NamedTuple):
    """What was measured of a sound."""

    loudness: float  # LUFS
    peak: float
    samples: int

    def gain(self, loudness: float) -> np.float32:
        """The factor that makes the sound as loud as that, in LUFS, or less where a peak would exceed 1."""
        from scripts.loudness import gain

        return np.float32(min(gain(self.loudness, loudness), 1 / self.peak if self.peak else math.inf))


def measure(pieces: Pieces) -> Level:
    from scripts.loudness import Meter  # SciPy is slow to import, and the player's toolchain alone has it

    meter, peak, samples = Meter(RATE), 0.0, 0
    for piece in pieces:
        meter.add(piece)
        peak = max(peak, float(np.abs(piece).max(initial=0)))
        samples += len(piece)
    return Level(meter.loudness(), peak, samples)


def made_loud(pieces: Pieces, loudness: float, store: BinaryIO) -> Sound:
    """The sound as loud as that, in LUFS, its peaks at most 1. The store holds it, as the gain shows at its end."""
    def stored() -> Iterator[np.ndarray]:
        for piece in pieces:
            store.write(piece.tobytes())
            yield piece

    gain = measure(stored()).gain(loudness)

    def sound() -> Iterator[np.ndarray]:
        store.seek(0)
        while block := store.read(PIECE):
            yield gain * np.frombuffer(block, np.float32)

    return sound


def beginning(pieces: Pieces, samples: int) -> Iterator[np.ndarray]:
    """The sound up to so many samples."""
    for piece in pieces:
        yield piece[:samples]
        samples -= len(piece)
        if samples <= 0:
            return


def from_array(samples: np.ndarray, rate: int) -> Sound:
    """The sound of an array, float [samples] or [samples, channels], as audio.read has it of a file.

    rate: samples a second. Raises Refusal on another shape or kind, and on what are no numbers.
    """
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2) or samples.dtype.kind != "f" or not samples.size:
        raise Refusal(f"audio: expected floats of shape [samples] or [samples, channels], found {samples.dtype} of "
                      f"shape {list(samples.shape)}: read it with soundfile.read")
    if samples.ndim == 2 and samples.shape[1] > samples.shape[0]:
        raise Refusal(f"audio: expected a shape [samples, channels], found {list(samples.shape)}, more channels than "
                      "samples: transpose it")
    with np.errstate(over="ignore"):  # what is too large is no number below
        samples = samples.astype(np.float32, copy=False)
    if not np.isfinite(samples).all():
        raise Refusal("audio: expected sound, found what are no numbers: clean it with np.nan_to_num")
    if not 0 < rate < math.inf:
        raise Refusal(f"sample_rate: expected samples a second, found {rate}: 44100 is usual")

    def sound() -> Iterator[np.ndarray]:
        stream = soxr.ResampleStream(rate, RATE, 1, dtype="float32")
        for start in range(0, len(samples), audio.BLOCK):
            block = samples[start:start + audio.BLOCK]
            yield stream.resample_chunk(block.reshape(len(block), -1).mean(axis=1))
        yield stream.resample_chunk(np.zeros(0, np.float32), last=True)

    return sound


def write(path: Path, pieces: Pieces, kind: str) -> None:
    """Write a WAV or FLAC, as its kind says, of 16 bits. Raises OSError where it can't."""
    try:
        with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16", format=kind) as file:
            for piece in pieces:
                file.write(piece)
    except soundfile.SoundFileError as error:
        raise OSError(errno.EIO, str(error)) from error
