"""A drum grid as a PNG: a row a drum, the taps above them, systems of four bars below each other."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from models.groovae.drums import KIT, Stroke
from models.groovae.inputs import WINDOW
from models.groovae.taps import BAR, Taps

COLOURS = ("#2f5d8c", "#d1495b", "#c9a227", "#e3a02c", "#3a8f74", "#4c9f85", "#6fb59d", "#7b5ea7", "#9a7fc0")
INK, GREY, LINE, BEAT, SIXTEENTH = "#222222", "#777777", "#9a9a9a", "#cfcfcf", "#ececec"
TAP = "#444444"
SYSTEM = 4 * BAR  # sixteenths
LEFT, RIGHT, TOP, BOTTOM, GAP = 1.15, 0.25, 0.95, 0.25, 0.4  # margins in inches
WIDE, HIGH = 0.15, 0.2  # inches a sixteenth, a row
NARROWEST = 9.5  # inches: room for the title
FAINTEST = 0.25  # opacity of the softest stroke


def draw(path: Path, taps: Taps, strokes: Sequence[Stroke], title: str, subtitle: str) -> None:
    """Write the PNG. A stroke lies where it sounds, early or late; the louder, the darker."""
    length = WINDOW * len(taps.windows())
    systems = [(start, min(start + SYSTEM, length)) for start in range(0, length, SYSTEM)]
    span = systems[0][1]
    width = max(NARROWEST, LEFT + WIDE * span + RIGHT)
    tall = HIGH * (len(KIT) + 1.5)
    height = TOP + len(systems) * (tall + GAP) - GAP + BOTTOM
    dpi = min(120, math.floor(60000 / height))  # as many systems as a long song has
    figure = Figure(figsize=(width, height), dpi=dpi, facecolor="white")
    for row, (start, end) in enumerate(systems):
        top = TOP + row * (tall + GAP)
        axes = figure.add_axes((LEFT / width, 1 - (top + tall) / height, WIDE * span / width, tall / height))
        axes.set(xlim=(start - 0.6, start + span - 0.4), ylim=(-0.6, len(KIT) + 0.9))
        draw_paper(axes, start, end)
        draw_strokes(axes, [step for step in taps.steps if start <= step + 0.5 < end],
                     [stroke for stroke in strokes if start <= min(stroke.step + 0.5, length - 0.5) < end])
    # A file's name may hold a dollar sign, which is no formula.
    figure.text(LEFT / width, 1 - 0.38 / height, title, size=14, weight="bold", color=INK, parse_math=False)
    figure.text(LEFT / width, 1 - 0.6 / height, subtitle, size=8.5, color=GREY, parse_math=False)
    figure.savefig(path, format="png")


def draw_paper(axes: Axes, start: int, end: int) -> None:
    """The grid: a line a sixteenth, darker ones on quarters and bars, bar numbers, names of drums."""
    for steps, colour, weight in ((range(start, end), SIXTEENTH, 0.6), (range(start, end, 4), BEAT, 0.8),
                                  (range(start, end + 1, BAR), LINE, 1.1)):
        axes.vlines(np.array(steps), -0.6, len(KIT) + 0.9, color=colour, linewidth=weight, zorder=1)
    axes.hlines(len(KIT) - 0.3, start - 0.6, end - 0.4, color=LINE, linewidth=0.6, zorder=1)
    for bar in range(start, end, BAR):
        axes.annotate(str(bar // BAR + 1), (bar, len(KIT) + 0.9), (1, 3), textcoords="offset points", size=7.5,
                      color=GREY)
    axes.set_yticks([*range(len(KIT)), len(KIT) + 0.3], [*KIT, "Taps"], size=8, color=INK)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def draw_strokes(axes: Axes, tapped: Sequence[float], strokes: Sequence[Stroke]) -> None:
    axes.scatter(tapped, [len(KIT) + 0.3] * len(tapped), marker="v", s=26, color=TAP, zorder=4)
    axes.scatter([stroke.step for stroke in strokes], [stroke.drum for stroke in strokes], marker="s", s=52,
                 c=[COLOURS[stroke.drum] for stroke in strokes] or None, linewidths=0, zorder=3,
                 alpha=[FAINTEST + (1 - FAINTEST) * stroke.velocity / 127 for stroke in strokes] or None)
