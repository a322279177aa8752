"""The tables of docs/artifacts.md: every recorded artifact with its size and what its gates measured."""

from pathlib import Path
from typing import Any

from scripts.docs import measured

TOGETHER = {"taught": "teacher forcing"}  # recipes' names of components that are judged together, in the field's words
# What a gate measured: its name, and how its figure is written, with its unit.
METRICS = {
    "noise_ratio": ("noise ratio", "{:.2g}"),
    "max_error": ("largest error", "{:.2g}"),
    "mean_error": ("mean error", "{:.2g}"),
    "p99_error": ("99th percentile of the error", "{:.2g}"),
    "given_max_error": ("largest error of what is given", "{:.2g}"),
    "snr_db": ("SNR", "{:.3g} dB"),
    "argmax_mismatches": ("top-1 mismatches", "{:.0f}"),
    "agreement": ("top-1 agreement", "{:.4g} %"),
    "agreement_above_median": ("top-1 agreement above the median margin", "{:.4g} %"),
    "divergence": ("KL divergence", "{:.2g} nats"),
    "equality": ("equal values", "{:.4g} %"),
    "loop_equality": ("equal to the loop run step by step", "{:.4g} %"),
    "decision_mismatches": ("mismatched hits", "{:.0f}"),
    "decision_agreement": ("equal hits", "{:.4g} %"),
    "size_share": ("weights", "{:.2g} % of fp32's size"),
}


def summary(root: Path) -> list[str]:
    """A row for each recorded build: how many artifacts, and the size of the largest one of each variant."""
    lines = ["| model | weights | artifacts | fp32, MB | fp16, MB | int8, MB |", "|---|---|---:|---:|---:|---:|"]
    for name, entry in ordered(root):
        weights, model = name.split("/")
        sizes = [max((one["bytes"] for one in entry["artifacts"] if one["variant"] == variant), default=0) / 1e6
                 for variant in ("fp32", "fp16", "int8")]
        cells = [f"{size:,.1f}" if size else "" for size in sizes]
        lines.append(f"| {model} | {weights} | {len(entry['artifacts'])} | {' | '.join(cells)} |")
    return lines


def sections(root: Path) -> list[str]:
    """A table for each recorded build."""
    lines = []
    for name, entry in ordered(root):
        weights, model = name.split("/")
        lines += ["", f"## {model}, {weights} weights", "", f"Measured on {entry['date']}, {entry['machine']}.", "",
                  "| artifact | component | variant | bytes | measured (and the bound) |", "|---|---|---|---:|---|"]
        lines += [f"| {one['file']} | {one['component']} | {one['variant']} | {one['bytes']:,} | "
                  f"{'; '.join(map(words, filter(told, one['gates'])))} |" for one in entry["artifacts"]]
    return [*lines, ""]


def ordered(root: Path) -> list[tuple[str, dict[str, Any]]]:
    """The entries of docs/measured.json, a model's side by side."""
    return sorted(measured.read(root).items(), key=lambda item: item[0].split("/")[::-1])


def told(gate: dict[str, Any]) -> bool:
    """Whether a gate isn't told by the column of bytes already."""
    return gate["metric"] != "bytes"


def words(gate: dict[str, Any]) -> str:
    """What a gate measured, and its bound. Those of components together begin with what these are together."""
    name, form = METRICS[gate["metric"]]
    scale = 100 if "%" in form else 1
    figure = form.format(scale * gate["measured"])
    sign, bound = ("≤", gate["at_most"]) if "at_most" in gate else ("≥", gate["at_least"])
    what = f"{gate['port']}: {name}" if "port" in gate else name
    if "together" in gate:
        what = f"{TOGETHER.get(gate['together'], gate['together'])}, {what}"
    case = f" on {gate['case']}" if "case" in gate else ""
    return f"{what} {figure}{case} ({sign} {scale * bound:.4g})"
