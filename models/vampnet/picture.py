"""A vamp as a PNG: the recording's spectrogram above, what of its codes is kept in the middle, the vamp's below.

Of a long recording only the first minute is drawn, and the picture says so.
"""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from models.vampnet.inputs import COARSE, CODEBOOKS, HOP, RATE

SECONDS = 60  # drawn at most
INK, GREY, LINE, PAPER = "#222222", "#777777", "#9a9a9a", "#f4f4f2"
KEPT, WRITTEN = "#2f5d8c", "#eadfd3"
PAINT = LinearSegmentedColormap.from_list("paint", (KEPT, WRITTEN))
HEAT = LinearSegmentedColormap.from_list("heat", (PAPER, "#c9d6e2", "#6f95b8", KEPT, "#14263a"))
WINDOW = 2048  # samples of a spectrum
COLUMNS, ROWS = 1200, 150  # of a spectrogram
LOWEST, HIGHEST = 40, 16000  # Hz
RANGE = 70  # dB that are told apart
WIDTH, LEFT, RIGHT, TOP, BOTTOM, GAP = 11, 0.75, 0.25, 0.95, 0.4, 0.32  # inches
TALL, MASK = 1.9, 1.25  # inches of a spectrogram and of the mask


def draw(path: Path, heard: np.ndarray, mask: np.ndarray, vamped: np.ndarray, title: str, subtitle: str) -> None:
    """Write the PNG.

    heard, vamped: float32 [samples] at 44.1 kHz, as many of both: the first SECONDS at most.
    mask: int [14, frames] of the whole recording, 0 where a code is kept.
    """
    seconds, frames = len(heard) / RATE, math.ceil(len(heard) / HOP)
    cut = mask.shape[1] > frames
    height = TOP + TALL + GAP + MASK + GAP + TALL + BOTTOM
    figure = Figure(figsize=(WIDTH, height), dpi=120, facecolor="white")

    def panel(above: float, tall: float, name: str) -> Axes:
        axes = figure.add_axes((LEFT / WIDTH, 1 - (above + tall) / height, (WIDTH - LEFT - RIGHT) / WIDTH,
                                tall / height))
        figure.text(LEFT / WIDTH, 1 - (above - 0.07) / height, name, size=8, color=INK, weight="bold")
        axes.tick_params(length=0, labelsize=7.5, labelcolor=GREY)
        axes.spines[:].set_visible(False)
        axes.set_xticks([])
        return axes

    spectra = [spectrogram(heard), spectrogram(vamped)]
    loudest = max(float(spectrum.max()) for spectrum in spectra)
    places = (TOP, TOP + TALL + MASK + 2 * GAP)
    for above, spectrum, name in zip(places, spectra, ("Recording", "Vamp")):
        draw_spectrogram(panel(above, TALL, name), spectrum, seconds, loudest)
    middle = panel(TOP + TALL + GAP, MASK, "Codes")
    draw_mask(middle, mask[:, :frames], seconds)
    draw_times(figure.axes[1], seconds)

    # A file's name may hold a dollar sign, which is no formula.
    figure.text(LEFT / WIDTH, 1 - 0.36 / height, title, size=14, weight="bold", color=INK, parse_math=False)
    subtitle += f" · the first {SECONDS} seconds of {mask.shape[1] * HOP / RATE:.0f}" if cut else ""
    figure.text(LEFT / WIDTH, 1 - 0.58 / height, subtitle, size=8, color=GREY, parse_math=False)
    figure.legend(handles=[Patch(color=KEPT, label="kept"), Patch(color=WRITTEN, label="written anew")], ncols=2,
                  loc="lower right", bbox_to_anchor=(1 - RIGHT / WIDTH, 1 - (TOP + TALL + GAP - 0.04) / height),
                  frameon=False, fontsize=7.5, labelcolor=GREY, handlelength=0.9, handleheight=0.9, borderaxespad=0,
                  borderpad=0, columnspacing=1.2, handletextpad=0.5)
    figure.savefig(path, format="png")


def spectrogram(samples: np.ndarray) -> np.ndarray:
    """The power in dB, float32 [ROWS, columns], of bands as wide as each other to the ear, the lowest first."""
    starts = np.linspace(0, len(samples), min(COLUMNS, len(samples)), endpoint=False).astype(np.int64)
    around = np.pad(samples, WINDOW // 2)
    found = np.empty((ROWS, len(starts)), np.float32)
    bands, hann = filters(), np.hanning(WINDOW).astype(np.float32)
    for first in range(0, len(starts), 100):
        part = starts[first:first + 100]
        spectra = np.fft.rfft(hann * around[part[:, None] + np.arange(WINDOW)], 2 * WINDOW)
        found[:, first:first + 100] = bands @ (np.abs(spectra) ** 2).T
    return 10 * np.log10(found + 1e-12)


def filters() -> np.ndarray:
    """Triangles over the bins, float64 [ROWS, WINDOW + 1], from one neighbour's centre to the other's, each of sum 1.
    """
    centres = np.geomspace(LOWEST, HIGHEST, ROWS)
    bins = np.arange(WINDOW + 1) * RATE / (2 * WINDOW)
    wide = np.maximum(centres * ((HIGHEST / LOWEST) ** (1 / (ROWS - 1)) - 1), bins[1])
    triangles = np.maximum(0, 1 - np.abs(bins - centres[:, None]) / wide[:, None])
    return triangles / triangles.sum(1, keepdims=True)


def draw_spectrogram(axes: Axes, spectrum: np.ndarray, seconds: float, loudest: float) -> None:
    axes.imshow(spectrum, cmap=HEAT, vmin=loudest - RANGE, vmax=loudest, aspect="auto", origin="lower",
                extent=(0, seconds, 0, ROWS), interpolation="antialiased")
    pitches = (100, 1000, 10000)
    heights = [ROWS * math.log(pitch / LOWEST) / math.log(HIGHEST / LOWEST) for pitch in pitches]
    axes.set_yticks(heights, ["100 Hz", "1 kHz", "10 kHz"])


def draw_mask(axes: Axes, mask: np.ndarray, seconds: float) -> None:
    """The first codebook at the top, a white line below the coarse ones."""
    axes.imshow(mask, cmap=PAINT, vmin=0, vmax=1, aspect="auto",
                extent=(0, mask.shape[1] * HOP / RATE, CODEBOOKS, 0), interpolation="antialiased")
    axes.set_xlim(0, seconds)
    axes.axhline(COARSE, color="white", linewidth=1.5)
    axes.set_yticks([COARSE / 2, (COARSE + CODEBOOKS) / 2], ["coarse", "fine"])


def draw_times(axes: Axes, seconds: float) -> None:
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10) if seconds / step <= 12 or step == 10)
    times = np.arange(0, seconds + step / 100, step)
    digits = max(0, -math.floor(math.log10(step)))
    axes.set_xticks(times, [f"{time:.{digits}f} s" if step < 1 else f"{time // 60:.0f}:{time % 60:02.0f}"
                            for time in times])
