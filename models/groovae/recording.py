"""Taps out of a recording: librosa hears when they begin, and how strongly."""

from pathlib import Path

import librosa
import numpy as np

from scripts import audio
from scripts.job import Refusal

RATE = 22050  # samples a second
HOP = 64  # samples: onsets are heard to 3 ms
FRAME = 1024
SILENCE = 1e-3  # of full scale
LONGEST = 1200  # seconds


def onsets(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """When the taps of a sound file begin, in seconds, and how strongly. Raises Refusal where there are none."""
    if (seconds := audio.duration(path)) > LONGEST:
        raise Refusal(f"{path}: expected at most {LONGEST} seconds, found {seconds:.0f}: cut it")
    mono = np.concatenate(list(audio.read(path, RATE)))
    if len(mono) < FRAME or np.abs(mono).max() < SILENCE:
        raise Refusal(f"{path}: expected taps, found silence: record it again, louder")
    strength = librosa.onset.onset_strength(y=mono, sr=RATE, hop_length=HOP, n_fft=FRAME)
    frames = librosa.onset.onset_detect(onset_envelope=strength, sr=RATE, hop_length=HOP)
    if len(frames) < 2:
        raise Refusal(f"{path}: expected a rhythm, found {len(frames) or 'no'} tap{'s' * (len(frames) != 1)}: "
                      "record some more, with short, clear strokes")
    return librosa.frames_to_time(frames, sr=RATE, hop_length=HOP), strength[frames]
