"""MT3's words: what a token says (mt3/vocabularies.py, mt3/event_codec.py).

Tokens 0, 1 and 2 are padding, the end and the unknown; those after are events, range by range; what is left
up to the network's vocabulary means nothing.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from models.mt3.inputs import END

SPECIAL = 3
STEPS = 100  # a second
LONGEST_SHIFT = 1000  # steps


class Event(NamedTuple):
    kind: str  # shift, pitch, velocity, tie, program or drum
    value: int


class Configuration(NamedTuple):
    """What upstream's gin files set."""
    velocities: int  # how many a note can have, besides 0, its end
    ties: bool  # whether a segment begins with the notes that go on from the one before
    frames: int  # of a segment


CONFIGURATIONS = {"mt3": Configuration(1, True, 256), "ismir2021": Configuration(127, False, 512)}


def ranges(configuration: Configuration) -> dict[str, range]:
    """The events of each kind, by their numbers from 0."""
    found, start = {}, 0
    for kind, count in (("shift", LONGEST_SHIFT + 1), ("pitch", 128), ("velocity", configuration.velocities + 1),
                        ("tie", 1), ("program", 128), ("drum", 128)):
        found[kind] = range(start, start + count)
        start += count
    return found


def events(tokens: Sequence[int], configuration: Configuration) -> Iterator[Event | None]:
    """What the tokens up to the end say; None where one says nothing."""
    known = ranges(configuration)
    for token in tokens:
        if token == END:
            return
        number = int(token) - SPECIAL
        yield next((Event(kind, number - numbers.start) for kind, numbers in known.items() if number in numbers), None)


def velocity_of(number: int, configuration: Configuration) -> int:
    """The MIDI velocity, 0 to 127, of a velocity event."""
    return int(127 * number / configuration.velocities)
