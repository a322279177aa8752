"""The beats of a tune, each of which gets a chord: quarter notes from each bar's start, or dotted notes where the meter
is compound, as 3/8, 6/8, 9/8 and 12/8 are.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from models.harmonizer.chords import BEAT
from scripts.tune import Bar, Tune, bars_of

COMPOUND = (8, 16)  # denominators of meters whose beats are dotted where threes make up a bar


class Beat(NamedTuple):
    """Times are in sixteenths from the tune's start."""

    bar: int
    place: int  # in the bar, from 1
    start: int
    end: int
    heard: int  # where the first quarter begins that the model hears for it; an upbeat's may begin before the tune


def beats_of(tune: Tune) -> list[Beat]:
    """Every beat of a tune in its order, without a gap. An upbeat's end with it: its first may be short, as the last of
    another bar may."""
    bars = bars_of(tune)
    return [beat for bar, following in itertools.zip_longest(bars, bars[1:])
            for beat in beats_in(bar, dotted(tune, following if bar.number == 0 and following else bar) or BEAT)]


def beats_in(bar: Bar, size: int) -> Iterator[Beat]:
    """A bar's beats of a size in sixteenths; those of an upbeat are counted from its end."""
    start, end = round(bar.start), round(bar.end)
    upbeat = bar.number == 0
    edges = sorted({start, end, *(range(end, start, -size) if upbeat else range(start, end, size))})
    for place, (begin, until) in enumerate(itertools.pairwise(edges), start=1):
        lead = -(until - begin) % BEAT if upbeat and place == 1 else 0
        yield Beat(bar.number, place, begin, until, begin - lead)


def dotted(tune: Tune, bar: Bar) -> int | None:
    """How long a bar's beats are in sixteenths, where they are dotted."""
    meters = [sign.message for sign in tune.signs
              if sign.message.type == "time_signature" and sign.tick <= bar.start * tune.sixteenth]
    compound = meters and meters[-1].denominator in COMPOUND and meters[-1].numerator % 3 == 0
    return 3 * 16 // meters[-1].denominator if compound else None
