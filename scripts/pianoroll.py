"""A piano roll as a PNG: systems of whole bars below each other, as in a score."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.tune import Bar, Note, Tune, bars_of, note_name

INK, GREY, LINE, BEAT, SHADE = "#222222", "#777777", "#b9b9b9", "#e4e4e4", "#f3f3f1"
BLACK_KEYS = (1, 3, 6, 8, 10)
SYSTEM = 128  # sixteenths, about: eight bars of 4/4
LEFT, RIGHT, TOP, BOTTOM, GAP = 0.6, 0.25, 1.05, 0.25, 0.4  # margins in inches
WIDE, HIGH = 0.095, 0.09  # inches a sixteenth, a semitone
NARROWEST = 9.0  # inches: room for the title and the legend


class Voice(NamedTuple):
    """Notes of one colour; where voices sing one pitch, a lower one lies inside a higher."""

    name: str
    colour: str
    height: float  # of a note, semitones
    notes: Sequence[Note]


def draw(path: Path, tune: Tune, voices: Sequence[Voice], title: str, subtitle: str,
         signs: Sequence[tuple[float, str]] = ()) -> None:
    """Write the PNG; signs are texts above the notes, each from a sixteenth on."""
    bars = bars_of(tune)
    a_system = math.ceil(len(bars) / math.ceil(tune.length / SYSTEM))
    systems = [bars[first:first + a_system] for first in range(0, len(bars), a_system)]
    pitches = [note.pitch for voice in voices for note in voice.notes]
    low, high = min(pitches) - 1.5, max(pitches) + (3.5 if signs else 1.5)
    span = max(system[-1].end - system[0].start for system in systems)

    width = max(NARROWEST, LEFT + WIDE * span + RIGHT)
    tall = HIGH * (high - low)
    height = TOP + len(systems) * (tall + GAP) - GAP + BOTTOM
    figure = Figure(figsize=(width, height), dpi=120, facecolor="white")
    for row, system in enumerate(systems):
        top = TOP + row * (tall + GAP)
        axes = figure.add_axes((LEFT / width, 1 - (top + tall) / height, 1 - (LEFT + RIGHT) / width, tall / height))
        start = system[0].start
        axes.set(xlim=(start, start + span), ylim=(low, high))
        draw_paper(axes, system)
        draw_voices(axes, voices, system)
        for place, text in signs:
            if start <= place < system[-1].end:
                axes.annotate(text, (place, high), (1, -9), textcoords="offset points", size=8, weight="bold",
                              color=INK)
    # A file's name may hold a dollar sign, which is no formula.
    figure.text(LEFT / width, 1 - 0.42 / height, title, size=14, weight="bold", color=INK, parse_math=False)
    figure.text(LEFT / width, 1 - 0.66 / height, subtitle, size=8.5, color=GREY, parse_math=False)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="upper right", ncols=len(voices), frameon=False,
                  bbox_to_anchor=(1 - RIGHT / width, 1 - 0.26 / height), borderaxespad=0, handlelength=1.2,
                  columnspacing=1.4, fontsize=9)
    figure.savefig(path, format="png")


def draw_paper(axes: Axes, system: Sequence[Bar]) -> None:
    """The keys as bands, bar lines with their numbers, faint quarter notes, pitch names at every C and G."""
    start, end = system[0].start, system[-1].end
    keys = range(math.ceil(axes.get_ylim()[0]), math.floor(axes.get_ylim()[1]) + 1)
    black = [key for key in keys if key % 12 in BLACK_KEYS]
    axes.barh(black, end - start, left=start, height=1, color=SHADE, zorder=0)
    axes.hlines([key for key in keys if key % 12 == 0], start, end, color=LINE, linewidth=0.7, zorder=1)
    quarters = [quarter for bar in system for quarter in np.arange(bar.start, bar.end, 4)]
    axes.vlines(quarters, *axes.get_ylim(), color=BEAT, linewidth=0.6, zorder=1)
    axes.vlines([*(bar.start for bar in system), end], *axes.get_ylim(), color=LINE, linewidth=1, zorder=2)
    for bar in system:
        if bar.number:
            axes.annotate(str(bar.number), (bar.start, axes.get_ylim()[1]), (1, 3), textcoords="offset points",
                          size=7.5, color=GREY)
    named = [key for key in keys if key % 12 in (0, 7)]
    axes.set_yticks(named, [note_name(key) for key in named], size=8, color=INK)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def draw_voices(axes: Axes, voices: Sequence[Voice], system: Sequence[Bar]) -> None:
    start, end = system[0].start, system[-1].end
    for depth, voice in enumerate(voices):
        notes = [note for note in voice.notes if note.start < end and note.end > start]
        # A hair's breadth between notes shows a repeated one.
        left = [max(note.start, start) + 0.09 for note in notes]
        right = [min(note.end, end) - 0.09 for note in notes]
        axes.barh([note.pitch for note in notes], np.subtract(right, left), left=left, height=voice.height,
                  color=voice.colour, label=voice.name, zorder=3 + depth)
