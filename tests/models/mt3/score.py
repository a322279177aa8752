"""F1 of transcriptions by mir_eval, in the toolchain checks: {name: [played, found]} in, {name: {measure: F1}} out.

A note is [pitch, velocity, onset, offset, program, is_drum]. Found is what begins within 50 ms of a played note of the
same pitch; for "offset" it also ends within 50 ms or a fifth of the note's length, whichever is more, drums aside,
which have no length; for "program" it begins so and an instrument of the same family plays it, of the 16 families of
eight that General MIDI has. Drums are compared with drums alone, in each measure.
"""

import json
import sys
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from mir_eval.transcription import match_notes

Note = Sequence[float]


def f1(played: Sequence[Note], found: Sequence[Note], instrument: Callable[[Note], Hashable], ends: bool) -> float:
    """Notes are compared within an instrument each; all of them count alike."""
    matched = sum(matches([note for note in played if instrument(note) == one],
                          [note for note in found if instrument(note) == one], ends)
                  for one in {instrument(note) for note in played})
    return 2 * matched / (len(played) + len(found))


def matches(played: Sequence[Note], found: Sequence[Note], ends: bool) -> int:
    if not played or not found:
        return 0
    (times, pitches), (other_times, other_pitches) = of(played), of(found)
    return len(match_notes(times, pitches, other_times, other_pitches,
                           offset_ratio=0.2 if ends and not played[0][5] else None))


def of(notes: Sequence[Note]) -> tuple[np.ndarray, np.ndarray]:
    """Onsets and offsets in seconds, [notes, 2], and pitches in hertz."""
    told = np.array(notes, float)
    return told[:, 2:4], 440 * 2 ** ((told[:, 0] - 69) / 12)


def is_drum(note: Note) -> Hashable:
    return note[5]


def family(note: Note) -> Hashable:
    return "drums" if note[5] else note[4] // 8


if __name__ == "__main__":
    print(json.dumps({name: {"onset": f1(*notes, is_drum, False), "offset": f1(*notes, is_drum, True),
                             "program": f1(*notes, family, False)}
                      for name, notes in json.load(sys.stdin).items()}))
