"""Where the notes of block chords lie: in a middle register, each chord near the one before (Python 3.11)."""

import itertools
from collections.abc import Sequence

from models.harmonizer.chords import TONES, number

LOWEST, HIGHEST = 48, 67  # C3 to G4
MIDDLE = 57.5


def voiced(names: Sequence[str]) -> list[tuple[int, ...]]:
    """MIDI pitches of each chord, all its tones once, within an octave, and the least motion from chord to chord.

    The first lies about the middle of the register.
    """
    found: list[tuple[int, ...]] = []
    for name in names:
        before = found[-1] if found else None
        found.append(min(inversions(name), key=lambda pitches: cost(pitches, before)))
    return found


def inversions(name: str) -> list[tuple[int, ...]]:
    """Every close position of a chord within the register."""
    tones = sorted(TONES[number(name)])
    chords = []
    for lowest in range(LOWEST, HIGHEST + 1):
        pitches = tuple(sorted(next(p for p in itertools.count(lowest) if p % 12 == tone) for tone in tones))
        if pitches[0] == lowest and pitches[-1] <= HIGHEST:
            chords.append(pitches)
    return chords


def cost(pitches: tuple[int, ...], before: tuple[int, ...] | None) -> tuple[float, float]:
    """How far each note lies from the nearest of the chord before, then how far the chord is from the middle."""
    off = abs(sum(pitches) / len(pitches) - MIDDLE)
    motion = sum(min(abs(pitch - old) for old in before) for pitch in pitches) if before else 0
    return motion + off / 4, off
