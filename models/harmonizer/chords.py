"""The chords, by name and number, and which of them four voices sound (Python 3.7 and later).

A chord's number is its root's pitch class, 0 for C, and 12 for each quality before its own:
0 to 11 are C to B major, 12 to 23 Cm to Bm, and so on. What a beat sounds is found as by Pardo and
Birmingham, "Algorithms for Chordal Analysis" (Computer Music Journal 26:2, 2002): the template that
explains most of it, by time.
"""

from typing import Tuple

import numpy as np

ROOTS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
QUALITIES = {"": (0, 4, 7), "m": (0, 3, 7), "dim": (0, 3, 6), "7": (0, 4, 7, 10), "m7": (0, 3, 7, 10)}
NAMES = tuple(root + quality for quality in QUALITIES for root in ROOTS)
TONES = tuple(tuple((root + step) % 12 for step in steps) for steps in QUALITIES.values() for root in range(12))
CHORDS = len(NAMES)
BEAT = 4  # sixteenths: a quarter note
UNKNOWN = -1

SILENT = 0.5  # what a tone costs a chord that doesn't sound, beats of one voice
SEVENTH = 1.25  # what being a seventh chord costs: its seventh counts where it sounds longer than an eighth
BASS = 0.25  # what a beat of its root in the bass is worth, which decides between equals


def templates() -> np.ndarray:
    """Float64 [60, 12]: 1 where a chord has the pitch class, else 0."""
    return np.stack([np.isin(np.arange(12), tones) for tones in TONES]).astype(np.float64)


def chords_of(voices: np.ndarray) -> np.ndarray:
    """The chord of each beat, int64 [beats], UNKNOWN where all voices rest.

    voices: MIDI pitches float [beats * 4, 4], a sixteenth a row, the bass last, NaN for a rest. A pitch
    class weighs what it sounds, in beats of one voice; a chord's score is the weight of its tones less
    that of all others, less what SILENT, SEVENTH and BASS say. Passing notes so count by their length.
    """
    cells = voices.reshape(-1, BEAT, voices.shape[1])
    sounding = np.where(np.isnan(cells), -1, cells).astype(np.int64)
    classes = np.where(sounding < 0, -1, sounding % 12)[..., None] == np.arange(12)
    weight = classes.sum(axis=(1, 2)) / BEAT
    bass = classes[:, :, -1].sum(axis=1) / BEAT
    has = templates()
    score = weight @ (2 * has.T - 1)
    score -= SILENT * ((weight == 0).astype(np.float64) @ has.T)
    score -= SEVENTH * (has.sum(axis=1) > 3)
    score += BASS * np.tile(bass, len(QUALITIES))
    return np.where(weight.any(axis=1), score.argmax(axis=1), UNKNOWN)


def transposed(chords: np.ndarray, steps: int) -> np.ndarray:
    """Chords moved by semitones; UNKNOWN stays."""
    return np.where(chords < 0, chords, chords // 12 * 12 + (chords % 12 + steps) % 12)


def number(name: str) -> int:
    """For instance 33 for Adim. Raises ValueError on a name that no chord has."""
    return NAMES.index(name)



def hits(ranked: np.ndarray, chords: np.ndarray) -> Tuple[float, float]:
    """Top-1 and top-3: the share of beats whose chord is the first, or among the first three, of a ranking.

    ranked: int [beats, 3 or more]; chords: int [beats], of which UNKNOWN doesn't count.
    """
    known = chords != UNKNOWN
    same = ranked[known, :3] == chords[known, None]
    return float(same[:, 0].mean()), float(same.any(axis=1).mean())
