"""A sweep of recordings of every rate, channel count, format and length, sound ones and others: each is heard as it is,
or refused in a sentence. FULL=1 sweeps 1,000.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts import audio
from scripts.job import Refusal
from tests.conftest import FULL, ROOT, run

EXAMPLES = 1000 if FULL else 40
RATE = 16000  # MT3's; VampNet's is 44,100
FORMATS = (("wav", "PCM_U8", 0.02), ("wav", "PCM_16", 1e-4), ("wav", "PCM_24", 1e-5), ("wav", "FLOAT", 1e-5),
           ("wav", "DOUBLE", 1e-5), ("aiff", "PCM_16", 1e-4), ("flac", "PCM_16", 1e-4), ("flac", "PCM_24", 1e-5),
           ("ogg", "VORBIS", None), ("ogg", "OPUS", None), ("mp3", "MPEG_LAYER_III", None))
HEAR = ROOT / "tests/models/groovae/hear.py"
KINDS = ("noise", "knocks", "constant", "silence", "turned over", "one channel", "faint", "too loud", "no number")


class Recorded(NamedTuple):
    format: str
    subtype: str
    close: float | None  # to what was written, None where the format is lossy
    rate: int
    channels: int
    frames: int
    kind: str
    seed: int


def random(seed: int) -> Recorded:
    """Some recording, the same for a seed."""
    draw = np.random.default_rng(seed)
    format, subtype, close = FORMATS[draw.integers(len(FORMATS))]
    return Recorded(format, subtype, close, 48000, int(draw.integers(1, 3)), int(draw.integers(0, 200_000)),
                    KINDS[draw.integers(len(KINDS) - 1)], seed)


@st.composite
def recordings(draw: st.DrawFn) -> Recorded:
    format, subtype, close = draw(st.sampled_from(FORMATS))
    rates = {"OPUS": (8000, 16000, 48000), "MPEG_LAYER_III": (16000, 32000, 44100, 48000)}
    kind = draw(st.sampled_from([kind for kind in KINDS if kind != "no number" or subtype in ("FLOAT", "DOUBLE")]))
    return Recorded(
        format, subtype, close, draw(st.sampled_from(rates.get(subtype, (8000, 11025, 22050, 44100, 48000, 96000)))),
        draw(st.integers(1, 2 if format in ("mp3", "ogg") else 6)),
        draw(st.one_of(st.integers(0, 40), st.integers(1000, 90_000))), kind, draw(st.integers(0, 2**32 - 1)))


def samples(told: Recorded) -> np.ndarray:
    """Float64 [frames, channels]."""
    draw = np.random.default_rng(told.seed)
    sound = draw.uniform(-0.3, 0.3, (told.frames, told.channels))
    if told.kind == "knocks":
        sound *= np.exp(-(np.arange(told.frames) % (told.rate // 4))[:, None] / (told.rate / 200))
    elif told.kind == "constant":
        sound[:] = 0.25
    elif told.kind == "silence":
        sound[:] = 0
    elif told.kind == "turned over":
        sound = sound[:, :1] * np.resize([1, -1], told.channels)
    elif told.kind == "one channel":
        sound[:, 1:] = 0
    elif told.kind == "faint":
        sound *= 1e-6
    elif told.kind == "too loud":
        sound *= 100
    elif told.kind == "no number" and told.frames:
        sound[draw.integers(told.frames)] = draw.choice([np.nan, np.inf, -np.inf])
    return sound


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("sweep")


@settings(max_examples=EXAMPLES)
@given(told=recordings())
def test_a_recording_is_heard_as_it_is_or_refused_in_a_sentence(place, told):
    path, sound = place / f"sound.{told.format}", samples(told)
    soundfile.write(path, sound, told.rate, told.subtype)
    kept, _ = soundfile.read(path, dtype="float32", always_2d=True) if told.frames else (sound, 0)
    try:
        seconds = audio.duration(path)
        heard = np.concatenate(list(audio.read(path, RATE)))
    except Refusal as refusal:
        said = str(refusal)
        assert said.startswith(f"{path}: expected") and len(said.splitlines()) == 1
        assert any(words in said and why for words, why in (
            ("no numbers", told.kind == "no number"),
            ("silence", np.abs(kept).max(initial=0) < audio.SILENCE),
            ("empty", len(kept) == 0),
            ("cancel each other", told.channels > 1 and np.square(kept.mean(1)).sum() < 2e-3 * np.square(kept).sum()),
            ("can't be read", len(kept) == 0))), said
        return
    assert np.isfinite(kept).all() and np.abs(kept).max() >= audio.SILENCE, "what the file holds, rounded as it may be"
    assert np.square(kept.mean(axis=1)).sum() >= audio.CANCELLED * np.square(kept).sum() / told.channels
    assert seconds == pytest.approx(len(kept) / told.rate)
    assert np.isfinite(heard).all() and abs(len(heard) - len(kept) * RATE / told.rate) <= 2
    whole = soxr.resample(kept.mean(axis=1), told.rate, RATE)
    common = min(len(whole), len(heard))
    assert np.abs(whole[:common] - heard[:common]).max(initial=0) <= 1e-3
    if told.close:
        assert np.abs(kept - np.clip(sound, -1, 1) if "PCM" in told.subtype else kept - sound).max() <= told.close


@settings(max_examples=EXAMPLES)
@given(told=recordings(), where=st.floats(0, 1), what=st.binary(max_size=8), cut=st.booleans())
def test_a_broken_recording_is_heard_or_refused_in_a_sentence(place, told, where, what, cut):
    path = place / f"broken.{told.format}"
    soundfile.write(path, samples(told), told.rate, told.subtype)
    content = bytearray(path.read_bytes())
    at = int(where * len(content))
    content[at:] = b"" if cut else what + content[at + len(what):]
    path.write_bytes(content)
    try:
        audio.remarks(path)
        audio.duration(path)
        heard = np.concatenate(list(audio.read(path, RATE)))
        assert np.isfinite(heard).all()
    except Refusal as refusal:
        assert str(refusal).startswith(f"{path}: expected") and len(str(refusal).splitlines()) == 1


def test_taps_of_a_recording_come_in_order_or_it_is_refused_in_a_sentence(place):
    """In the players' toolchain, which alone has what hears them."""
    paths = [place / f"{seed}.{random(seed).format}" for seed in range(EXAMPLES)]
    for seed, path in enumerate(paths):
        soundfile.write(path, samples(random(seed)), random(seed).rate, random(seed).subtype)
    done = run("scripts/in", "player", "python", HEAR, *(word for path in paths for word in (path, "0")))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for path, told in zip(paths, found, strict=True):
        if isinstance(told, str):
            assert told.startswith(f"{path}: expected") and len(told.splitlines()) == 1
        else:
            assert told["remarks"] and (np.diff(np.floor(np.array(told["steps"]) + 0.5)) > 0).all()
    assert 0.1 < np.mean([isinstance(told, str) for told in found]) < 0.9
