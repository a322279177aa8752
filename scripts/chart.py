"""The picture of a bench, as SVG: bars of how many times as fast as the original each contestant ran.

Equal results give equal bytes. The legend has a line of its own, above all bars.
"""

import math
from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape

COLOURS = {"1": "#9db4c0", "2": "#33658a"}  # by number of threads
COLUMNS = 2
PANEL, GAP = 440, 24  # widths, in px, of a component's bars and between two of them
HEAD, TITLE, AXIS = 58, 30, 26  # heights: of the legend, of a panel's title, of what is below its bars
BAR, ROW = 13, 34  # heights: of a bar, of a contestant with its two bars
LETTER, SMALL = 7, 6  # width of a letter of a contestant's name, and of the small text, about
LABEL = 50  # width that a bar leaves for its figure
STYLE = ("text{font:12px sans-serif;fill:#222}.title{font-size:14px;font-weight:600}.small{font-size:11px;fill:#666}"
         ".end{text-anchor:end}.figure{font-size:11px;paint-order:stroke;stroke:#fff;stroke-width:3px}")


def draw(result: dict[str, Any]) -> str:
    """The picture of a result as make bench has it: a panel for each component and workload."""
    works = list(dict.fromkeys(name.split("/")[0] for name in result["ratios"]))
    columns = min(COLUMNS, len(works))
    width = max(columns * PANEL + (columns + 1) * GAP, SMALL * len(caption(result)) + 2 * GAP)
    parts, top = list(legend(result)), HEAD
    for first in range(0, len(works), columns):
        row = works[first:first + columns]
        for column, work in enumerate(row):
            left = GAP + column * (PANEL + GAP)
            parts += [f'<g transform="translate({left},{top})">', *panel(result, work), "</g>"]
        top += max(height(result, work) for work in row)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top}" viewBox="0 0 {width} {top}">',
        f"<title>How many times as fast as the original each artifact of {escape(result['model'])} runs</title>",
        f'<style>{STYLE}</style><rect width="{width}" height="{top}" fill="#fff"/>', *parts, "</svg>"]) + "\n"


def legend(result: dict[str, Any]) -> Iterator[str]:
    """The colours of one thread and two, and below them what was measured, when and where."""
    for number, (threads, colour) in enumerate(COLOURS.items()):
        left = GAP + 90 * number
        yield f'<rect x="{left}" y="10" width="18" height="{BAR}" fill="{colour}"/>'
        yield f'<text x="{left + 24}" y="21">{threads} thread{"s" * (threads != "1")}</text>'
    yield f'<text class="small" x="{GAP}" y="42">{escape(caption(result))}</text>'


def caption(result: dict[str, Any]) -> str:
    return f"times as fast as the original; {result['weights']} weights, {result['date']}, {result['machine']}"


def contestants(result: dict[str, Any], work: str) -> dict[str, dict[str, float]]:
    """The ratios by number of threads, by contestant."""
    return {name.partition("/")[2]: ratios for name, ratios in result["ratios"].items() if name.split("/")[0] == work}


def height(result: dict[str, Any], work: str) -> int:
    return TITLE + ROW * len(contestants(result, work)) + AXIS


def panel(result: dict[str, Any], work: str) -> Iterator[str]:
    """A component's title, its bars, a line where the original is, and the bars' figures, which nothing crosses."""
    rows = contestants(result, work)
    left = LETTER * max(len(name.partition("/")[2]) for name in result["ratios"]) + 8
    most = max(max(ratios.values()) for ratios in rows.values())
    scale = (PANEL - left - LABEL) / most
    bottom = TITLE + ROW * len(rows)
    figures = []
    yield f'<text class="title" x="{left}" y="18">{escape(work)}</text>'
    for number, (name, ratios) in enumerate(rows.items()):
        top = TITLE + ROW * number
        yield f'<text class="end" x="{left - 8}" y="{top + BAR + 4}">{escape(name)}</text>'
        for bar, (threads, colour) in enumerate(COLOURS.items()):
            wide, y = scale * ratios[threads], top + BAR * bar
            yield f'<rect x="{left}" y="{y}" width="{wide:.1f}" height="{BAR - 1}" fill="{colour}"/>'
            figures.append(f'<text class="figure" x="{left + wide + 5:.1f}" y="{y + 10}">{ratios[threads]:.2f}×'
                           "</text>")
    yield f'<path d="M{left + scale:.1f},{TITLE - 4}V{bottom - 4}" stroke="#444" stroke-dasharray="2 2"/>'
    yield from figures
    for tick in range(0, math.floor(most) + 1, math.ceil(most / 6)):
        x = f"{left + scale * tick:.1f}"
        yield f'<text class="small" text-anchor="middle" x="{x}" y="{bottom + 12}">{tick}×</text>'
