"""Recordings of any kind and length become mono pieces at one rate, or one sentence."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile

from scripts import audio
from scripts.job import Refusal
from tests.conftest import ROOT

RATE = 16000


def tone(seconds, rate, channels=1, pitch=440.0):
    sound = 0.5 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)
    return np.repeat(sound[:, None], channels, axis=1)


def read(path):
    return np.concatenate(list(audio.read(path, RATE)))


@pytest.mark.parametrize(("name", "rate", "channels", "settings"), [
    ("plain.wav", 16000, 1, {"subtype": "PCM_16"}),
    ("eight.wav", 11025, 1, {"subtype": "PCM_U8"}),
    ("high.wav", 192000, 2, {"subtype": "PCM_24"}),
    ("float.wav", 44100, 6, {"subtype": "FLOAT"}),
    ("low.flac", 8000, 1, {}),
    ("stereo.flac", 48000, 2, {"subtype": "PCM_24"}),
    ("music.ogg", 44100, 2, {}),
    ("music.mp3", 44100, 2, {}),
])
def test_every_kind_of_recording_is_the_same_tone(tmp_path, name, rate, channels, settings):
    """440 Hz at half of full scale for two seconds."""
    soundfile.write(tmp_path / name, tone(2, rate, channels), rate, **settings)
    assert audio.duration(tmp_path / name) == pytest.approx(2, abs=0.1)
    sound = read(tmp_path / name)
    assert sound.dtype == np.float32 and len(sound) == pytest.approx(2 * RATE, abs=0.1 * RATE)
    middle = sound[RATE // 2:RATE // 2 + RATE].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(RATE)))
    assert spectrum.argmax() == 440
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.03)


def test_pieces_are_the_whole_resampled_at_once(tmp_path):
    """No seam where one block ends: the stream is one."""
    import soxr

    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 300_000).astype(np.float32)
    soundfile.write(tmp_path / "noise.wav", noise, 44100, subtype="FLOAT")
    whole = soxr.resample(noise, 44100, RATE)
    pieces = read(tmp_path / "noise.wav")
    assert abs(len(pieces) - len(whole)) <= 1
    assert np.abs(pieces[:len(whole)] - whole[:len(pieces)]).max() <= 1e-4


@pytest.mark.parametrize(("name", "content", "said"), [
    ("none.wav", None, "expected a recording (WAV, FLAC, Ogg, MP3), found none"),
    ("text.wav", b"this is no sound" * 99, "found a file that can't be read: save it again"),
    ("nothing.wav", b"", "found a file that can't be read: save it again"),
])
def test_what_is_no_recording_is_refused(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(Refusal) as refusal:
        audio.duration(tmp_path / name)
    assert said in str(refusal.value) and name in str(refusal.value)


@pytest.mark.parametrize(("sound", "said"), [
    (np.zeros(0), "an empty recording"), (np.zeros(RATE), "1.0 seconds of silence"),
    (np.full(RATE, 5e-5), "1.0 seconds of silence"),
])
def test_nothing_to_hear_is_refused(tmp_path, sound, said):
    soundfile.write(tmp_path / "still.wav", sound, RATE, subtype="FLOAT")
    with pytest.raises(Refusal, match=said):
        audio.duration(tmp_path / "still.wav")


def test_sound_that_is_no_numbers_is_refused(tmp_path):
    sound = tone(3, RATE)[:, 0]
    sound[2 * RATE] = np.nan
    soundfile.write(tmp_path / "broken.wav", sound, RATE, subtype="FLOAT")
    with pytest.raises(Refusal, match=r"no numbers after 2\.00 seconds"):
        read(tmp_path / "broken.wav")


@pytest.mark.parametrize(("left", "right"), [(1, -1), (0.5, -0.49), (-1, 1)])
def test_channels_that_cancel_each_other_out_are_no_silence(tmp_path, left, right):
    soundfile.write(tmp_path / "opposite.wav", tone(2, RATE, 2) * [left, right], RATE, subtype="FLOAT")
    with pytest.raises(Refusal, match=r"cancel each other out.*: save one of them as mono"):
        audio.duration(tmp_path / "opposite.wav")


@pytest.mark.parametrize(("left", "right"), [(1, 0), (1, -0.5), (0.001, 1)])
def test_channels_that_differ_are_mixed(tmp_path, left, right):
    soundfile.write(tmp_path / "stereo.wav", tone(2, RATE, 2) * [left, right], RATE, subtype="FLOAT")
    assert audio.duration(tmp_path / "stereo.wav") == 2


def test_a_wav_that_is_cut_off_is_said_to_be(tmp_path):
    soundfile.write(tmp_path / "cut.wav", tone(3, RATE), RATE)
    assert audio.remarks(tmp_path / "cut.wav") == []
    (tmp_path / "cut.wav").write_bytes((tmp_path / "cut.wav").read_bytes()[:48044])
    assert audio.duration(tmp_path / "cut.wav") == 1.5
    [remark] = audio.remarks(tmp_path / "cut.wav")
    assert remark.endswith("its header tells of 96,000 bytes of sound, and 48,000 are there")


@pytest.mark.parametrize("name", ["tone.flac", "tone.ogg", "tone.mp3", "tone.aiff"])
def test_other_recordings_promise_nothing(tmp_path, name):
    soundfile.write(tmp_path / name, tone(1, RATE), RATE)
    assert audio.remarks(tmp_path / name) == []


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0xFFFFFFF0])
def test_a_stream_that_did_not_know_its_length_is_read(tmp_path, size):
    soundfile.write(tmp_path / "piped.wav", tone(2, RATE), RATE)
    content = bytearray((tmp_path / "piped.wav").read_bytes())
    content[40:44] = size.to_bytes(4, "little")
    (tmp_path / "piped.wav").write_bytes(content)
    assert audio.remarks(tmp_path / "piped.wav") == [] and len(read(tmp_path / "piped.wav")) == 2 * RATE


def test_a_recorder_that_was_cut_off_left_no_empty_recording(tmp_path):
    soundfile.write(tmp_path / "recorder.wav", tone(2, RATE), RATE)
    content = bytearray((tmp_path / "recorder.wav").read_bytes())
    content[40:44] = bytes(4)
    (tmp_path / "recorder.wav").write_bytes(content)
    with pytest.raises(Refusal, match="found none in its header and 64000 bytes after it"):
        audio.duration(tmp_path / "recorder.wav")


def test_what_telephones_record_is_converted_first(tmp_path):
    (tmp_path / "voice.m4a").write_bytes(b"\0\0\0\x20ftypM4A " * 50)
    with pytest.raises(Refusal, match=r"convert it, for instance with ffmpeg -i voice.m4a voice.wav"):
        audio.duration(tmp_path / "voice.m4a")


def test_a_truncated_flac_is_refused_and_a_truncated_wav_read_to_where_it_goes(tmp_path):
    for name in ("cut.flac", "cut.wav"):
        soundfile.write(tmp_path / name, np.random.default_rng(0).uniform(-0.5, 0.5, 20 * RATE), RATE)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[:len(whole) // 2])
    with pytest.raises(Refusal, match=r"cut.flac: expected a recording .* can't be read to its end"):
        read(tmp_path / "cut.flac")
    assert len(read(tmp_path / "cut.wav")) == pytest.approx(10 * RATE, abs=100)


def test_two_hours_are_read_in_little_memory(tmp_path):
    """Stereo at 44.1 kHz would be 2.5 GB of floats. In a process of its own, whose peak is told."""
    code = """
import sys, resource, numpy as np, soundfile
from scripts import audio
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(len(piece) for piece in audio.read(sys.argv[1], 16000))
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    path = tmp_path / "long.flac"
    with soundfile.SoundFile(path, "w", 44100, 2) as file:
        minute = tone(60, 44100, 2)
        for _ in range(120):
            file.write(minute)
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True, cwd=ROOT)
    count, kilobytes = map(int, done.stdout.split())
    assert count == pytest.approx(7200 * RATE, abs=RATE)
    assert kilobytes < 100_000
