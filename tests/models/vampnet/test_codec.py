"""A recording that is coded in windows is coded as the whole: code by code, and sample by sample."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile

from models.vampnet import codec
from models.vampnet.inputs import CODEBOOKS, HOP, VOCABULARY
from scripts.seeded import seeded_uniform, seeded_unit
from tests.conftest import exact_session

ENCODER_RATES, DECODER_RATES = (2, 6, 8, 8), (6, 4, 4, 2, 2, 2)  # lac's, of every size of it
ROUNDING = 2e-6  # of samples up to 1: kernels that suit another length sum in another order


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def variant(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def encoder(cast: Path, variant: str) -> onnxruntime.InferenceSession:
    return exact_session(cast / f"vampnet-encoder-{variant}.onnx")


@pytest.fixture(scope="module")
def decoder(cast: Path, variant: str) -> onnxruntime.InferenceSession:
    return exact_session(cast / f"vampnet-decoder-{variant}.onnx")


def noise(samples: int) -> np.ndarray:
    return 0.3 * seeded_uniform("codec", (samples,))


def seeded_codes(frames: int) -> np.ndarray:
    return (VOCABULARY * seeded_unit("codec/codes", (CODEBOOKS, frames))).astype(np.int64)


@pytest.fixture(params=["recording", "noise"])
def sound(request, golden: Path) -> np.ndarray:
    if request.param == "noise":
        return noise(100 * HOP + 1)
    return soundfile.read(golden / "data/example.wav", dtype="float32")[0][200_000:200_000 + 130 * HOP + 411]


def in_pieces(sound: np.ndarray, length: int) -> Iterator[np.ndarray]:
    return (sound[start:start + length] for start in range(0, len(sound), length))


def encoded(encoder: onnxruntime.InferenceSession, sound: np.ndarray, *sizes: int, length: int = 5000) -> np.ndarray:
    return np.concatenate(list(codec.encode(encoder, in_pieces(sound, length), *sizes)), axis=1)


def decoded(decoder: onnxruntime.InferenceSession, codes: np.ndarray, *sizes: int) -> np.ndarray:
    return np.concatenate(list(codec.decode(decoder, codes, *sizes)))


@pytest.mark.parametrize(("window", "length"), [(7, 1), (16, 767), (33, 5000), (512, 4096)])
def test_codes_of_windows_are_those_of_the_whole(encoder, sound, window, length):
    if length == 1:
        sound = sound[:30 * HOP + 5]
    whole = encoder.run(None, {"audio": sound[None]})[0][0]
    np.testing.assert_array_equal(encoded(encoder, sound, window, length=length), whole)


@pytest.mark.parametrize("samples", [1, 441, 767, 768, 769, 8 * HOP, 24 * HOP - 1, 24 * HOP, 24 * HOP + 1, 32 * HOP])
def test_sound_of_any_length_has_the_codes_of_the_whole(encoder, samples):
    """Also where it ends with a window, or with the frames after one."""
    whole = encoder.run(None, {"audio": noise(samples)[None]})[0][0]
    found = encoded(encoder, noise(samples), 16)
    assert found.shape == (CODEBOOKS, -(-samples // HOP))
    np.testing.assert_array_equal(found, whole)


def test_no_sound_has_no_codes(encoder):
    assert list(codec.encode(encoder, [])) == list(codec.encode(encoder, [np.zeros(0, np.float32)] * 2)) == []


@pytest.mark.parametrize("window", [7, 32, 64, 512])
def test_sound_of_windows_is_that_of_the_whole(encoder, decoder, sound, window):
    for codes in (encoded(encoder, sound), seeded_codes(101)):
        whole = decoder.run(None, {"codes": codes[None]})[0][0]
        np.testing.assert_allclose(decoded(decoder, codes, window), whole, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("frames", [1, 15, 16, 17, 34, 50])
def test_codes_of_any_length_have_the_sound_of_the_whole(decoder, frames):
    codes = seeded_codes(frames)
    found = decoded(decoder, codes, 16)
    assert found.shape == (frames * HOP,) and found.dtype == np.float32
    np.testing.assert_allclose(found, decoder.run(None, {"codes": codes[None]})[0][0], rtol=0, atol=ROUNDING)


# The frames around a window


def test_the_frames_around_a_window_are_as_many_as_the_convolutions_reach():
    left = right = 0  # the positions around one that it depends on, last layer first
    left, right = left + 1, right + 1
    for rate in reversed(ENCODER_RATES):
        left, right = left * rate + rate // 2, right * rate + 2 * rate - 1 - rate // 2
        left, right = left + 3 * (1 + 3 + 9), right + 3 * (1 + 3 + 9)
    left, right = left + 3, right + 3 - (HOP - 1)  # beyond the frame's own samples
    assert left == right == 5539 and -(-left // HOP) == codec.ENCODER_CONTEXT

    first, last = -3, HOP - 1 + 3  # of the samples of a frame
    for rate in reversed(DECODER_RATES):
        first, last = first - 5 * (1 + 3 + 5) - 5 * 3, last + 5 * (1 + 3 + 5) + 5 * 3
        first, last = -(-(first + rate // 2 - 2 * rate + 1) // rate), (last + rate // 2) // rate
    assert (first - 3, last + 3) == (-codec.DECODER_CONTEXT, codec.DECODER_CONTEXT)


def test_two_frames_less_around_a_window_give_other_codes(encoder):
    sound = noise(100 * HOP)
    whole = encoder.run(None, {"audio": sound[None]})[0][0]
    np.testing.assert_array_equal(encoded(encoder, sound, 1), whole)
    assert (encoded(encoder, sound, 1, codec.ENCODER_CONTEXT - 2) != whole).any()


def test_fewer_frames_around_a_window_sound_otherwise(decoder):
    """The outermost frames weigh less than the rounding; five less are heard."""
    codes = seeded_codes(100)
    whole = decoder.run(None, {"codes": codes[None]})[0][0]
    assert np.abs(decoded(decoder, codes, 8, codec.DECODER_CONTEXT - 5) - whole).max() > 4 * ROUNDING
