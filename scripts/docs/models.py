"""The table of the README: each model with the figures of its largest int8 artifact, which is the whole model."""

from pathlib import Path
from typing import Any

from scripts import recipe
from scripts.docs import benchmarks, measured

# The kinds of weights, in the order in which figures are taken of them, and what they are called.
KINDS = {"released": "the authors' weights", "bundled": "weights that were trained here", "seeded": "synthetic weights"}
NONE = "–"


def table(root: Path) -> list[str]:
    """A row for each model, and a sentence on which weights the agreement was measured."""
    lines = ["| model | what it does | int8, MB | top-1 agreement | speed-up | licence | card |",
             "|---|---|---:|---:|---:|---|---|"]
    kinds: dict[str, list[str]] = {}
    for model in recipe.models(root):
        told = recipe.read(root, model)
        row, kind = figures(root, model, told)
        if kind:
            kinds.setdefault(kind, []).append(model)
        lines.append(f"| {model} | {told['task']} | {row} | {told['weights_licence']} | "
                     f"[{told['title']}](models/{model}/README.md) |")
    said = [f"that of {', '.join(kinds[kind])} on {named}" for kind, named in KINDS.items() if kind in kinds]
    return [*lines, *(["", f"The agreement was measured on different weights: {'; '.join(said)}."] if said else [])]


def figures(root: Path, model: str, told: dict[str, Any]) -> tuple[str, str | None]:
    """The cells of size, agreement and speed-up, and the kind of weights of the agreement, if there is any."""
    entries = {kind: entry for kind in KINDS if (entry := measured.read(root).get(f"{kind}/{model}"))}
    if not entries:
        return " | ".join([NONE] * 3), None
    kind, entry = next(iter(entries.items()))
    graphs = [one for one in entry["artifacts"] if one["variant"] == "int8" and one["file"].endswith(".onnx")]
    if not graphs:
        return " | ".join([NONE] * 3), None
    largest = max(graphs, key=lambda one: one["bytes"])
    parts = told["components"][largest["component"]].get("loop_of", [largest["component"]])
    shares = [one["agreement"] for one in graphs if one["component"] in parts and "agreement" in one]
    agreement = f"{100 * min(shares):.1f} %" if shares else NONE
    row = f"{largest['bytes'] / 1e6:,.1f} | {agreement} | {speed(root, model, [largest['component'], *parts])}"
    return row, kind if shares else None


def speed(root: Path, model: str, components: list[str]) -> str:
    """How many times as fast as the original int8 is on one thread: of the first component that was timed.

    Where that was timed at several workloads, from the least to the most.
    """
    for component in components:
        for kind in KINDS:
            ratios = benchmarks.read(root).get(f"{kind}/{model}", {}).get("ratios", {})
            found = [ratio["1"] for name, ratio in ratios.items()
                     if name.split("/")[0].split(",")[0] == component and name.endswith("/int8")]
            if found:
                least, most = f"{min(found):.2f}", f"{max(found):.2f}"
                return f"{least}×" if least == most else f"{least}–{most}×"
    return NONE
