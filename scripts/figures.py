"""docs/artifacts.md: every recorded artifact with its bytes and what was measured of it against the original.

A section a model and kind of weights; `make checksums` writes those of the models that it records.
"""

import datetime
import json
import re
from pathlib import Path
from typing import Any

from scripts import manifest
from scripts.bench import machine

ROOT = Path(__file__).resolve().parent.parent
PAGE = Path("docs/artifacts.md")
# What a gate measured, in words.
WORDS = {
    "noise_ratio": "{port}: {measured:.1f} times the original's own rounding",
    "size_share": "{percent:.0f} % of fp32's weights",
    "max_error": "{port} within {measured:.1e}",
    "mean_error": "{port} within {measured:.1e} on average",
    "snr_db": "{port} at {measured:.1f} dB",
    "argmax_mismatches": "{measured} argmaxes of {port} differ",
    "agreement": "{percent:.1f} % of argmaxes equal",
    "agreement_above_median": "{percent:.1f} % of those above the median margin",
    "divergence": "{measured:.1e} nats",
    "equality": "{percent:.1f} % of {port} equal",
    "loop_equality": "{percent:.1f} % of {port} as its loop step by step",
    "decision_mismatches": "{measured} hits differ",
    "decision_agreement": "{percent:.1f} % of hits equal",
}


def section(model: str, weights: str, report: dict[str, Any]) -> str:
    """A model's artifacts as a table. report: as the stage verify writes it."""
    rows = [f"| {one['file']} | {one['variant']} | {one['bytes']:,} | {words(one['gates'])} |"
            for one in report["artifacts"]]
    today = f"{datetime.date.today():%Y-%m-%d}"
    return "\n".join([f"## {model}, {weights} weights\n", f"Measured on {today}, {machine()}.\n",
                      "| artifact | variant | bytes | against the original |", "|---|---|---:|---|", *rows, ""])


def words(gates: list[dict[str, Any]]) -> str:
    """What the gates measured, those of encoder and decoder together after a name of theirs."""
    told = [(f"{gate['together']}: " if "together" in gate else "")
            + WORDS[gate["metric"]].format(**gate, percent=100 * gate["measured"])
            + (f" ({gate['case']})" if "case" in gate else "") for gate in gates if gate["metric"] in WORDS]
    return "; ".join(told)


def record(model: str, weights: str) -> None:
    """Put a model's section of a verified build into the page, in the place of the one before."""
    report = json.loads((ROOT / "build" / weights / model / "verify/report.json").read_text())
    opening, *sections = re.split(r"^(?=## )", (ROOT / PAGE).read_text(encoding="utf-8"), flags=re.MULTILINE)
    titled = {one.partition("\n")[0]: one.rstrip() + "\n\n" for one in sections}
    new = section(model, weights, report) + "\n"
    titled[new.partition("\n")[0]] = new
    text = opening + "".join(titled[title] for title in sorted(titled))
    manifest.write_atomically(ROOT / PAGE, text.rstrip() + "\n")
