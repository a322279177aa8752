"""A melody in from MIDI, within Coconet's pitches; four voices out to MIDI."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.coconet.inputs import LOWEST, PITCHES
from scripts import tune
from scripts.tune import Note, Tune

HIGHEST = LOWEST + PITCHES - 1
EXAMPLE = "models/coconet/samples/old-hundredth.mid"
VOICES = ("Soprano", "Alto", "Tenor", "Bass")
PROGRAMS = (68, 69, 71, 70)  # oboe, English horn, clarinet, bassoon: the instruments of Coconet's own MIDI files


def read_tune(path: Path) -> Tune:
    """The melody of a MIDI file, its pitches within the model's. Raises Refusal on a file without one."""
    return tune.read_tune(path, range(LOWEST, HIGHEST + 1), EXAMPLE)


def voices_of(melody: Tune, pitches: np.ndarray) -> list[list[Note]]:
    """The notes of each voice, soprano first, of MIDI pitches [time, 4].

    The soprano's are the melody's own; in the others equal pitches in a row are one held note.
    """
    voices = [list(melody.notes)]
    for voice in range(1, len(VOICES)):
        edges = [0, *(np.flatnonzero(np.diff(pitches[:, voice])) + 1).tolist(), melody.length]
        voices.append([Note(start, end, int(pitches[start, voice])) for start, end in itertools.pairwise(edges)])
    return voices


def write_chorale(path: Path, melody: Tune, voices: Sequence[Sequence[Note]]) -> None:
    """MIDI of type 1: a track of the melody's signs, then a track and channel a voice, all of the melody's length."""
    tune.write_parts(path, melody, [tune.Part(*voice) for voice in zip(VOICES, PROGRAMS, voices)])
