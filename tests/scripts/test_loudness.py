"""Loudness is what ITU-R BS.1770-4, EBU Tech 3341 and audiotools say of it; all is measured in the player's toolchain.

The standards' tones read up to 0.05 LU less here: pyloudnorm designs its filters for any rate, and they aren't quite
the standard's.
"""

import json

import numpy as np
import pytest
import soundfile

from tests.conftest import run

# Between pieces the meter is given nothing, as soxr at times does, and asked: neither may change the number.
MEASURE = """
import json, sys, soundfile
from scripts.loudness import Meter, gain

def measure(path, length, factor=1.0):
    with soundfile.SoundFile(path) as file:
        meter = Meter(file.samplerate)
        for piece in file.blocks(length, dtype="float32", always_2d=True):
            meter.add(factor * piece.mean(axis=1))
            meter.add(piece[:0, 0])
            meter.loudness()
    return meter.loudness()

told = []
for path, length in zip(sys.argv[1::2], sys.argv[2::2]):
    loudness = measure(path, int(length))
    told.append({"loudness": loudness, "made -16": measure(path, 1 << 16, gain(loudness, -16.0))})
print(json.dumps(told))
"""
WHOLE = 1 << 24  # samples, more than any recording here has
LENGTHS = [1, 7, 800, 3199, 3200, 3201, 5000]  # of pieces; at 8 kHz a block is 3200 samples, and a step 800
NOISES = {"long": (8000, 21_234), "short": (8000, 1234), "odd": (11025, 30_000), "high": (96000, 70_001)}
RATES = (44100, 48000)


def sine(*parts: tuple[float, float], pitch: float = 997.0, rate: int = 48000) -> np.ndarray:
    """A tone that has a level for so many seconds, then another: the levels in dB of full scale, at their peaks."""
    level = np.concatenate([np.full(round(seconds * rate), 10 ** (decibels / 20)) for decibels, seconds in parts])
    return (level * np.sin(2 * np.pi * pitch * np.arange(len(level)) / rate)).astype(np.float32)


def noise(name: str) -> np.ndarray:
    """Noise whose level changes four times a second, from full scale to 40 dB less."""
    rate, length = NOISES[name]
    chance = np.random.default_rng(list(NOISES).index(name))
    level = np.repeat(10 ** chance.uniform(-2, 0, length // (rate // 4) + 1), rate // 4)[:length]
    return (level * chance.uniform(-0.5, 0.5, length)).astype(np.float32)


def recordings() -> dict[str, tuple[np.ndarray, int]]:
    """The sounds, with the samples a second of each. EBU's are the mono halves of what Tech 3341 tells in stereo."""
    sounds = {
        "silence": (np.zeros(48000, np.float32), 48000),
        "nothing": (np.zeros(0, np.float32), 48000),
        "whisper": (sine((-68, 5)), 48000),
        "click": (sine((0, 0.01)), 48000),
        "click in silence": (sine((-200, 2), (0, 0.01), (-200, 2)), 48000),
        "tone in silence": (sine((-200, 30), (-20, 20), (-200, 30)), 48000),
        "a third of a second": (sine((0, 0.3)), 48000),
        "more than two blocks": (sine((0, 0.54)), 48000),
        "EBU 1": (sine((-23, 20), pitch=1000), 48000),
        "EBU 2": (sine((-33, 20), pitch=1000), 48000),
        "EBU 3": (sine((-36, 10), (-23, 60), (-36, 10), pitch=1000), 48000),
        "EBU 4": (sine((-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10), pitch=1000), 48000),
        "EBU 5": (sine((-26, 20), (-20, 20.1), (-26, 20), pitch=1000), 48000),
    }
    for rate in RATES:
        sounds |= {f"{level} dB at {rate}": (sine((level, 5), rate=rate), rate) for level in (0, -23)}
    for name, (rate, _) in NOISES.items():
        sounds |= {name: (noise(name), rate), f"{name}, doubled": (2 * noise(name), rate)}
    return sounds


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> dict[str, dict[str, float]]:
    """What each recording measures, and what it does after the gain to -16 LUFS; also of "long" in each of LENGTHS."""
    folder = tmp_path_factory.mktemp("recordings")
    asked = {}
    for name, (sound, rate) in recordings().items():
        soundfile.write(folder / f"{name}.wav", sound, rate, subtype="FLOAT")
        asked[name] = (folder / f"{name}.wav", WHOLE)
    asked |= {f"long by {length}": (folder / "long.wav", length) for length in LENGTHS}
    return dict(zip(asked, measure(*asked.values())))


def measure(*asked) -> list[dict[str, float]]:
    """Of files, each read in pieces of so many samples."""
    done = run("scripts/in", "player", "python", "-c", MEASURE, *[word for pair in asked for word in pair])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# The standards


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("level", "loudness"), [(0, -3.01), (-23, -26.01)])
def test_a_tone_measures_what_the_standard_calibrates(measured, rate, level, loudness):
    """BS.1770-4: 997 Hz at 0 dB of full scale in one channel is -3.01."""
    assert measured[f"{level} dB at {rate}"]["loudness"] == pytest.approx(loudness, abs=0.05)


@pytest.mark.parametrize(("case", "loudness"), [(1, -23), (2, -33), (3, -23), (4, -23), (5, -23)])
def test_quiet_parts_count_as_the_ebu_says(measured, case, loudness):
    """Tech 3341, table 1, within its 0.1 LU: what's 10 LU quieter counts not at all, what's 6 LU quieter does.

    One channel of two alike is 3.01 LU less loud than both.
    """
    assert measured[f"EBU {case}"]["loudness"] == pytest.approx(loudness - 3.01, abs=0.1)


def test_silence_does_not_count(measured):
    """But for the six blocks of which a tone of 197 fills a quarter, a half and three quarters."""
    mixed = 10 * np.log10((197 + 3) / (197 + 6))
    assert measured["tone in silence"]["loudness"] == pytest.approx(-20 - 3.05 + mixed, abs=0.01)


@pytest.mark.parametrize("name", ["silence", "nothing", "whisper"])
def test_what_is_too_quiet_to_count_measures_minus_70(measured, name):
    assert measured[name]["loudness"] == -70


@pytest.mark.parametrize("name", ["click", "click in silence"])
def test_a_click_is_as_loud_as_a_block_that_holds_it(measured, name):
    """10 ms of 400, less 16 dB."""
    assert measured[name]["loudness"] == pytest.approx(-3.05 + 10 * np.log10(10 / 400), abs=0.02)


def test_a_short_recording_is_filled_up_to_half_a_second(measured):
    """Two blocks, of which 0.3 seconds fill three quarters and a half."""
    expected = -3.05 + 10 * np.log10((3 / 4 + 2 / 4) / 2)
    assert measured["a third of a second"]["loudness"] == pytest.approx(expected, abs=0.02)


def test_the_last_block_is_filled_up(measured):
    """0.54 seconds fill two blocks, and 0.34 seconds of a third."""
    expected = -3.05 + 10 * np.log10((2 + 0.34 / 0.4) / 3)
    assert measured["more than two blocks"]["loudness"] == pytest.approx(expected, abs=0.02)


# The original


AUDIOTOOLS = {
    "0 dB at 44100": -3.05243, "0 dB at 48000": -3.05169, "click": -19.05955, "a third of a second": -5.09396,
    "more than two blocks": -3.27422, "tone in silence": -23.11637, "EBU 4": -26.06557, "EBU 5": -26.03037,
    "long": -16.49564, "short": -34.17977, "odd": -21.86432, "high": -19.03146,
}


@pytest.mark.parametrize("name", AUDIOTOOLS)
def test_the_number_is_audiotools(measured, name):
    """Its Meter at 54eecf6, with pyloudnorm 0.2.0 and julius 0.2.8; it computes in float32."""
    assert measured[name]["loudness"] == pytest.approx(AUDIOTOOLS[name], abs=1e-4)


@pytest.mark.parametrize(("name", "loudness"), [("example", -23.99999), ("basic_plain", -18.97504)])
def test_music_measures_what_it_does_in_audiotools(golden, name, loudness):
    """Its channels mixed into one first."""
    [told] = measure((golden / f"data/{name}.wav", 1 << 16))
    assert told["loudness"] == pytest.approx(loudness, abs=5e-4)


# The meter


@pytest.mark.parametrize("length", LENGTHS)
def test_pieces_measure_what_the_whole_does(measured, length):
    assert measured[f"long by {length}"]["loudness"] == pytest.approx(measured["long"]["loudness"], abs=1e-9)


@pytest.mark.parametrize("name", NOISES)
def test_twice_the_amplitude_is_6_louder(measured, name):
    louder = measured[f"{name}, doubled"]["loudness"] - measured[name]["loudness"]
    assert louder == pytest.approx(20 * np.log10(2), abs=1e-9)


@pytest.mark.parametrize("name", [*NOISES, "click", "EBU 4"])
def test_the_gain_makes_a_recording_as_loud_as_wanted(measured, name):
    assert measured[name]["made -16"] == pytest.approx(-16, abs=1e-5)


def test_half_an_hour_is_measured_in_little_memory():
    """Its float64 samples would be 640 MB. In a process of its own, whose peak is told."""
    code = """
import resource, numpy as np
from scripts.loudness import Meter
meter, piece = Meter(44100), np.random.default_rng(0).uniform(-0.5, 0.5, 1 << 16).astype(np.float32)
meter.add(piece)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(30 * 60 * 44100 // len(piece)):
    meter.add(piece)
print(meter.loudness(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = run("scripts/in", "player", "python", "-c", code)
    assert done.returncode == 0, done.stderr
    loudness, kilobytes = map(float, done.stdout.split())
    assert -10 < loudness < 0 and kilobytes < 10_000
