"""What the F1 of a transcription counts, and what it forgives."""

import pytest

from models.mt3.notes import Note
from tests.models.mt3 import music

PLAYED = [Note(60, 90, 0.0, 1.0, 0, False), Note(64, 90, 0.0, 1.0, 73, False), Note(67, 90, 1.0, 2.0, 0, False),
          Note(60, 90, 1.0, 1.01, 0, True)]


def moved(seconds: float) -> list[Note]:
    return [note._replace(onset=note.onset + seconds, offset=note.offset + seconds) for note in PLAYED]


CASES = {
    "the same": (PLAYED, (1, 1, 1)),
    "40 ms late": (moved(0.04), (1, 1, 1)),
    "60 ms late": (moved(0.06), (0, 0, 0)),
    "a semitone off": ([note._replace(pitch=note.pitch + 1) for note in PLAYED], (0, 0, 0)),
    "nothing": ([], (0, 0, 0)),
    "one missing": (PLAYED[1:], (6 / 7, 6 / 7, 6 / 7)),
    "one twice": ([*PLAYED, PLAYED[0]], (8 / 9, 8 / 9, 8 / 9)),
    "too short": ([note._replace(offset=note.offset - 0.3 * (not note.is_drum)) for note in PLAYED], (1, 1 / 4, 1)),
    "a drum for a note": ([note._replace(is_drum=True) for note in PLAYED], (1 / 4, 1 / 4, 1 / 4)),
    "another instrument": ([note._replace(program=0) for note in PLAYED], (1, 1, 3 / 4)),
    "another of the family": ([note._replace(program=note.program - 1) if note.program else note for note in PLAYED],
                              (1, 1, 1)),
}


@pytest.fixture(scope="module")
def scores():
    return music.compared({name: (PLAYED, found) for name, (found, _) in CASES.items()})


@pytest.mark.parametrize("name", CASES)
def test_notes_count_by_pitch_onset_offset_and_family(scores, name):
    expected = dict(zip(("onset", "offset", "program"), CASES[name][1]))
    assert scores[name] == pytest.approx(expected)
