"""A transcription as a PNG: time by pitch, a colour an instrument, drums in a lane of their own, systems of twenty
seconds below each other.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from models.mt3 import midi
from models.mt3.notes import Note

COLOURS = ("#2f5d8c", "#d1495b", "#3a8f74", "#c9a227", "#7b5ea7", "#e07a3f", "#4aa3c7", "#8c5a3c", "#b0558f", "#6b8e23")
INK, GREY, LINE, SECOND, BLACK_KEY = "#222222", "#777777", "#9a9a9a", "#e2e2e2", "#f5f5f5"
DRUM = "#444444"
SYSTEM = 20  # seconds
SYSTEMS = 60  # drawn at most
LEFT, RIGHT, TOP, BOTTOM, GAP = 0.6, 0.25, 0.75, 0.35, 0.5  # margins in inches
WIDE, HIGH = 0.55, 0.045  # inches a second, a semitone
LANE = 4  # semitones of room for the drums
NARROWEST = 9.5  # inches: room for the title
NAMED = 12  # instruments in the legend


def draw(path: Path, notes: Sequence[Note], seconds: float, title: str, subtitle: str) -> None:
    """Write the PNG. The louder a note, the darker it is. Of very long recordings only the beginning is drawn."""
    played = midi.instruments(notes)
    colours = {name: DRUM if name == "Drums" else COLOURS[number % len(COLOURS)] for number, name in enumerate(played)}
    pitches = [note.pitch for note in notes if not note.is_drum] or [60]
    low, high = 12 * (min(pitches) // 12), 12 * (max(pitches) // 12 + 1)
    bottom = low - LANE * ("Drums" in played)
    starts = range(0, max(1, math.ceil(seconds)), SYSTEM)[:SYSTEMS]
    span = min(SYSTEM, max(1, math.ceil(seconds)))
    tall = HIGH * (high - bottom)
    width = max(NARROWEST, LEFT + WIDE * span + RIGHT)
    legend = 0.2 * math.ceil(min(len(played), NAMED + 1) / 4)
    top = TOP + legend
    height = top + len(starts) * (tall + GAP) - GAP + BOTTOM
    figure = Figure(figsize=(width, height), dpi=min(120, math.floor(60000 / height)), facecolor="white")
    for row, start in enumerate(starts):
        above = top + row * (tall + GAP)
        axes = figure.add_axes((LEFT / width, 1 - (above + tall) / height,
                                (width - LEFT - RIGHT) / width, tall / height))
        axes.set(xlim=(start, start + span), ylim=(bottom, high))
        draw_paper(axes, start, start + span, low, high)
        for name, part in played.items():
            draw_notes(axes, [note for note in part if note.offset > start and note.onset < start + span],
                       colours[name], low)
    # A file's name may hold a dollar sign, which is no formula.
    figure.text(LEFT / width, 1 - 0.34 / height, title, size=14, weight="bold", color=INK, parse_math=False)
    figure.text(LEFT / width, 1 - 0.56 / height, subtitle, size=8, color=GREY, parse_math=False)
    handles = [Line2D([], [], color=colours[name], linewidth=4, label=name) for name in list(played)[:NAMED]]
    if len(played) > NAMED:
        handles.append(Line2D([], [], color="none", label=f"and {len(played) - NAMED} more"))
    if handles:
        figure.legend(handles=handles, ncols=4, loc="upper left", bbox_to_anchor=(LEFT / width, 1 - 0.62 / height),
                      frameon=False, fontsize=8, labelcolor=INK, handlelength=1.2, borderaxespad=0, borderpad=0.2)
    figure.savefig(path, format="png")


def draw_paper(axes: Axes, start: int, end: int, low: int, high: int) -> None:
    """Black keys shaded, a line a second and an octave, and their names."""
    for pitch in range(low, high):
        if pitch % 12 in (1, 3, 6, 8, 10):
            axes.axhspan(pitch - 0.5, pitch + 0.5, color=BLACK_KEY, linewidth=0, zorder=0)
    axes.vlines(np.arange(start, end + 1), *axes.get_ylim(), color=SECOND, linewidth=0.6, zorder=1)
    octaves = np.arange(low, high, 12)
    axes.hlines(octaves - 0.5, start, end, color=LINE, linewidth=0.5, zorder=1)
    labels = [f"C{pitch // 12 - 1}" for pitch in octaves]
    drums = [low - LANE / 2] if axes.get_ylim()[0] < low else []
    axes.set_yticks([*drums, *octaves], [*["Drums"] * len(drums), *labels], size=7.5, color=INK)
    seconds = range(start, end + 1, 5 if end - start > 5 else 1)
    axes.set_xticks(seconds, [f"{second // 60}:{second % 60:02}" for second in seconds], size=7.5, color=GREY)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def draw_notes(axes: Axes, notes: Sequence[Note], colour: str, low: int) -> None:
    if not notes:
        return
    opacities = [0.45 + 0.55 * note.velocity / 127 for note in notes]
    if notes[0].is_drum:
        axes.scatter([note.onset for note in notes], [low - LANE / 2 - 0.5] * len(notes), marker="|", s=60,
                     color=colour, linewidths=1.1, alpha=opacities, zorder=3)
        return
    lines = [((note.onset, note.pitch), (max(note.offset, note.onset + 0.03), note.pitch)) for note in notes]
    axes.add_collection(LineCollection(lines, colors=colour, linewidths=72 * HIGH * 0.8, alpha=opacities, zorder=3,
                                       capstyle="butt"))
