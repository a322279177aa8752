"""What can be said of chords without a network: the measure of the model (Python 3.7 and later).

Each way ranks the chords of every beat of a melody, int64 [beats, 60], the best first. Each is given its
best: the key is the one that the whole melody tells of, and counts are those of the training split.
"""

from typing import Callable, Dict, Sequence, Tuple

import numpy as np

from models.harmonizer.chords import BEAT, CHORDS, UNKNOWN, number, templates, transposed
from models.harmonizer.dataset import Piece

# How well each step above a tonic fits major and minor: C. Krumhansl, "Cognitive Foundations of Musical Pitch" (1990).
PROFILES = ((6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
            (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17))
# The triads of C major, and of C minor with its leading note in the dominant, the most usual first.
TRIADS = (("C", "G", "F", "Am", "Dm", "Em", "Bdim"), ("Cm", "G", "Fm", "Ab", "Eb", "Bb", "Ddim"))
REST = 12  # the column of a beat without a note
Ranking = Callable[[np.ndarray], np.ndarray]


def sounding(melody: np.ndarray) -> np.ndarray:
    """How many sixteenths each pitch class sounds in each beat, int64 [beats, 12], of MIDI pitches [beats * 4]."""
    classes = np.where(melody > 0, melody % 12, -1).reshape(-1, BEAT, 1)
    return (classes == np.arange(12)).sum(axis=1)


def key_of(melody: np.ndarray) -> Tuple[int, int]:
    """The tonic's pitch class, and 0 for major or 1 for minor: whose profile correlates most with the melody."""
    told = sounding(melody).sum(axis=0)
    keys = [(tonic, mode) for mode in range(2) for tonic in range(12)]
    if told.min() == told.max():
        return keys[0]
    return max(keys, key=lambda key: np.corrcoef(told, np.roll(PROFILES[key[1]], key[0]))[0, 1])


def in_c(melody: np.ndarray) -> Tuple[int, int, np.ndarray]:
    """A melody's key, tonic and mode, and what sounds in each beat, moved to C."""
    tonic, mode = key_of(melody)
    return tonic, mode, np.roll(sounding(melody), -tonic, axis=1)


def note_of(sounds: np.ndarray) -> np.ndarray:
    """The pitch class that sounds longest in each beat, or REST, int64 [beats]."""
    return np.where(sounds.any(axis=1), sounds.argmax(axis=1), REST)


def ranked(scores: np.ndarray) -> np.ndarray:
    """Chords by their scores [beats, 60], the highest first."""
    return np.argsort(-scores, axis=-1, kind="stable")


def rule(melody: np.ndarray) -> np.ndarray:
    """Of the key's triads those that hold the beat's notes longest, and of these the most usual."""
    tonic, mode, sounds = in_c(melody)
    scores = np.full((len(sounds), CHORDS), -1.0)
    triads = [number(name) for name in TRIADS[mode]]
    scores[:, triads] = (sounds @ templates().T)[:, triads] - np.arange(len(triads)) / len(triads)
    return transposed(ranked(scores), tonic)


def rankings(train: Sequence[Piece]) -> Dict[str, Ranking]:
    """Each way by its name, its counts taken from the training split."""
    anywhere, by_note = np.zeros(CHORDS), np.zeros((2, REST + 1, CHORDS))
    for piece in train:
        known = piece.chords != UNKNOWN
        tonic, mode, sounds = in_c(piece.melody)
        np.add.at(anywhere, piece.chords[known], 1)
        np.add.at(by_note[mode], (note_of(sounds)[known], transposed(piece.chords, -tonic)[known]), 1)
    by_key = by_note.sum(axis=1)

    def most_frequent(melody: np.ndarray) -> np.ndarray:
        return ranked(np.tile(anywhere, (len(melody) // BEAT, 1)))

    def most_frequent_in_key(melody: np.ndarray) -> np.ndarray:
        tonic, mode, sounds = in_c(melody)
        return transposed(ranked(np.tile(by_key[mode], (len(sounds), 1))), tonic)

    def most_frequent_over_note(melody: np.ndarray) -> np.ndarray:
        tonic, mode, sounds = in_c(melody)
        counts = by_note[mode, note_of(sounds)] + by_key[mode] / (1 + by_key[mode].sum())
        return transposed(ranked(counts), tonic)

    return {"most frequent": most_frequent, "most frequent in the key": most_frequent_in_key, "rule": rule,
            "most frequent over the note in the key": most_frequent_over_note}
