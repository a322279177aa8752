"""The melodies that a build makes by itself: to ask the original, and for the bench (Python 3.7 and later).

Melodies are MIDI pitches int64 [batch, beats * 4], a sixteenth a step, 0 for a rest.
"""

from typing import Dict

import numpy as np

from models.coconet.inputs import chorales, progressions
from models.harmonizer.chords import BEAT
from scripts.seeded import seeded_unit


def songs(name: str, batch: int, beats: int) -> np.ndarray:
    """Melodies over triads, a note a beat and here and there a passing note, and a rest."""
    melodies = progressions("harmonizer/" + name, batch, beats * BEAT)[..., 0].reshape(batch, beats, BEAT)
    drawn = seeded_unit("harmonizer/ornaments/" + name, (batch, beats))
    melodies[..., 2:] += (2 * (drawn < 0.25))[..., None]
    melodies[drawn > 0.95] = 0
    return melodies.reshape(batch, beats * BEAT)


def reference() -> Dict[str, np.ndarray]:
    """Melodies by case: sopranos of the hand-set chorales, made ones, one alone that is long, and one beat."""
    return {"chorales": chorales(32)[..., 0], "made": songs("made", 8, 24), "long": songs("long", 1, 128),
            "beat": songs("beat", 3, 1)}


def bench() -> Dict[str, Dict[str, np.ndarray]]:
    """What the bench feeds each component: one melody of 8 bars of 4/4."""
    return {"chords": {"melody": songs("bench", 1, 32)}}
