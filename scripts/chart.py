"""The picture of a bench: python -m scripts.chart BENCH.json PICTURE.png"""

import json
import math
import sys
from pathlib import Path

from matplotlib.figure import Figure

COLOURS = {"1": "#9db4c0", "2": "#33658a"}
MOST_COLUMNS = 4


def draw(result: dict, path: Path) -> None:
    """Bars of how many times as fast as the original each contestant ran, by component and threads."""
    medians = result["medians"]
    components = sorted({name.split("/")[0] for name in medians})
    columns = min(len(components), MOST_COLUMNS)
    rows_of_axes = math.ceil(len(components) / columns)
    figure = Figure(figsize=(5.5 * columns, 3.6 * rows_of_axes), layout="constrained")
    every = figure.subplots(rows_of_axes, columns, squeeze=False).flat
    for axes in every[len(components):]:
        axes.set_visible(False)
    for axes, component in zip(every, components):
        contestants = [name.split("/")[1] for name in medians if name.startswith(component + "/")]
        for offset, (threads, colour) in zip((0.2, -0.2), COLOURS.items()):
            original = medians[f"{component}/original"][threads]
            ratios = [original / medians[f"{component}/{name}"][threads] for name in contestants]
            rows = [len(contestants) - 1 - row + offset for row in range(len(contestants))]
            bars = axes.barh(rows, ratios, height=0.36, color=colour, label=f"{threads} thread{'s' * (threads != '1')}")
            axes.bar_label(bars, [f"{ratio:.2f}x" for ratio in ratios], padding=3, fontsize=8)
        axes.set_yticks(range(len(contestants)), contestants[::-1])
        axes.set_title(f"{result['model']} {component}")
        axes.set_xlabel("times as fast as the original")
        axes.margins(x=0.15)
        axes.axvline(1, color="#444444", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="upper right")
    figure.supxlabel(f"{result['weights']} weights, {result['date']}, {result['machine']}", fontsize=7, color="#666666")
    figure.savefig(path, dpi=130, metadata={"Software": None})


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
