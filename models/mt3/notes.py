"""From tokens to notes, segment by segment, as upstream reads them (mt3/metrics_utils.py, mt3/note_sequences.py,
mt3/run_length_encoding.py).

Times are counted in steps from the segment's start, anew after each event that isn't a shift. With ties a
segment begins with the notes that go on, up to a tie event; the others end there. What can't be is counted
and passed over, as upstream does.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from models.mt3.vocabulary import STEPS, Configuration, Event, events, velocity_of

SHORTEST = 0.01  # seconds, and how long a drum sounds
UNTOLD_VELOCITY = 100  # before the first velocity event


class Note(NamedTuple):
    pitch: int  # MIDI
    velocity: int  # 1 to 127
    onset: float  # seconds
    offset: float
    program: int  # General MIDI, from 0
    is_drum: bool


class Segment(NamedTuple):
    start: float  # seconds
    tokens: Sequence[int]


class Transcription(NamedTuple):
    notes: list[Note]  # in the order in which they ended
    invalid: int  # events that can't be
    dropped: int  # events after the next segment's start


class Reader:
    """What is known while segments are read one after another."""

    def __init__(self, configuration: Configuration):
        self.configuration = configuration
        self.now, self.velocity, self.program = 0.0, UNTOLD_VELOCITY, 0
        self.sounding: dict[tuple[int, int], tuple[float, int]] = {}  # onset and velocity by pitch and program
        self.tied: set[tuple[int, int]] = set()
        self.tying = False
        self.notes: list[Note] = []

    def read(self, segment: Segment, until: float | None) -> tuple[int, int]:
        """Read a segment; returns how many events were invalid, and how many dropped for lying after `until`."""
        if self.configuration.ties:
            self.tied, self.tying = set(), True
        told = list(events(segment.tokens, self.configuration))
        invalid, steps, time = 0, 0, segment.start
        for number, event in enumerate(told):
            if event is None:
                invalid += 1
            elif event.kind == "shift":
                steps += event.value
                time = segment.start + steps / STEPS
                if until and time > until:
                    return invalid, len(told) - number
            else:
                steps = 0
                invalid += not self.hear(event, time)
        return invalid, 0

    def hear(self, event: Event, time: float) -> bool:
        """Take an event in; returns whether it can be."""
        if time < self.now:
            return False
        self.now = time
        key = (event.value, self.program)
        if event.kind == "velocity":
            self.velocity = velocity_of(event.value, self.configuration)
        elif event.kind == "program":
            self.program = event.value
        elif event.kind == "tie":
            if not self.tying:
                return False
            for other in [other for other in self.sounding if other not in self.tied]:
                self.end(other, time)
            self.tying = False
        elif event.kind == "drum":
            if not self.velocity:
                return False
            self.write(event.value, self.velocity, time, time + SHORTEST, 0, True)
        elif self.tying:
            if key not in self.sounding or key in self.tied:
                return False
            self.tied.add(key)
        elif not self.velocity and key not in self.sounding:
            return False
        else:
            if key in self.sounding:
                self.end(key, time)
            if self.velocity:
                self.sounding[key] = time, self.velocity
        return True

    def end(self, key: tuple[int, int], time: float) -> None:
        onset, velocity = self.sounding.pop(key)
        self.write(key[0], velocity, onset, time, key[1], False)

    def write(self, pitch: int, velocity: int, onset: float, offset: float, program: int, is_drum: bool) -> None:
        self.notes.append(Note(pitch, velocity, onset, max(offset, onset + SHORTEST), program, is_drum))

    def finish(self) -> list[Note]:
        """End what still sounds, and return all notes."""
        last = max([self.now, *(onset + SHORTEST for onset, _ in self.sounding.values())])
        for key in list(self.sounding):
            self.end(key, last)
        return self.notes


def transcribe(segments: Iterable[Segment], configuration: Configuration) -> Transcription:
    """The notes of a recording's segments, whatever their order."""
    reader, ordered = Reader(configuration), sorted(segments, key=lambda segment: segment.start)
    counts = [reader.read(segment, after.start if after else None)
              for segment, after in zip(ordered, [*ordered[1:], None])]
    return Transcription(reader.finish(), sum(one for one, _ in counts), sum(one for _, one in counts))
