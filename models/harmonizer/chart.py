"""A chord chart in text: the chords bar by bar, then every beat with what else would fit."""

from collections.abc import Iterator, Sequence

from models.harmonizer.chords import BEAT
from scripts.tune import Tune, bars_of

A_LINE = 4  # bars
Ranked = Sequence[tuple[str, float]]  # chords and their probabilities, the likeliest first


def lines(tune: Tune, suggestions: Sequence[Ranked], title: str) -> Iterator[str]:
    """The chart's lines. A chord that goes on is a dot, a beat belongs to the bar in which it begins."""
    bars = [(bar.number, [beat for beat in range(len(suggestions)) if bar.start <= beat * BEAT < bar.end])
            for bar in bars_of(tune)]
    yield title
    yield ""
    cells = []
    for _, beats in bars:
        names = [suggestions[beat][0][0] for beat in beats]
        cells.append(" ".join(name if beat == 0 or name != names[beat - 1] else "."
                              for beat, name in enumerate(names)))
    width = max(map(len, cells))
    for first in range(0, len(cells), A_LINE):
        yield f"{bars[first][0]:>4} | " + " | ".join(f"{cell:<{width}}" for cell in cells[first:first + A_LINE]) + " |"
    yield ""
    yield " bar  beat  chords and their probabilities"
    for number, beats in bars:
        for place, beat in enumerate(beats, start=1):
            ranked = "".join(f"  {chord:<5}{probability:4.0%}" for chord, probability in suggestions[beat])
            yield f"{number:>4}  {place:>4}{ranked}"
