"""A chord chart in text: the chords bar by bar, then every beat with what else would fit."""

import itertools
from collections.abc import Iterator, Sequence

from models.harmonizer.beats import Beat

A_LINE = 4  # bars
Ranked = Sequence[tuple[str, float]]  # chords and their probabilities, the likeliest first


def lines(beats: Sequence[Beat], suggestions: Sequence[Ranked], title: str) -> Iterator[str]:
    """The chart's lines. A chord that goes on within its bar is a dot."""
    yield title
    yield ""
    bars = []
    for number, told in itertools.groupby(zip(beats, suggestions, strict=True), key=lambda pair: pair[0].bar):
        names = [ranked[0][0] for _, ranked in told]
        bars.append((number, " ".join("." if name == before else name for name, before in zip(names, ["", *names]))))
    width = max(len(cell) for _, cell in bars)
    for first in range(0, len(bars), A_LINE):
        cells = " | ".join(f"{cell:<{width}}" for _, cell in bars[first:first + A_LINE])
        yield f"{bars[first][0]:>4} | {cells} |"
    yield ""
    yield " bar  beat  chords and their probabilities"
    for beat, ranked in zip(beats, suggestions, strict=True):
        others = "".join(f"  {chord:<5}{probability:4.0%}" for chord, probability in ranked)
        yield f"{beat.bar:>4}  {beat.place:>4}{others}"
