"""docs/supported.md: what became of every network, as a table."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from scripts import engines
from scripts.job import Refusal

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = Path("docs/supported.md")
TITLES = {"tensorflow": "TensorFlow 2.4", "pytorch": "PyTorch", "flax": "Flax"}
SLACK = 2  # dB
MOST = 100  # dB, from which on a figure is rounding's alone, which follows the CPU
HEAD = """\
# What converts

`make supported` converts the small networks below, and writes this page. Each network is made by its own framework.
`make new` writes a folder for its weights; what a user has to put there (the class, the inputs and outputs) is put
there; `make` converts it. Then fp32, fp16 and int8 get inputs that the build didn't have, exact zeros among them, at
two sizes of each dynamic axis, and their outputs are compared with the framework's. The figures are signal-to-noise
ratios in dB, the lowest of all outputs: 20 dB are one decimal digit, and from {most} dB on the error is the rounding
of float32. A network that can't be converted is refused with the sentence in the table. We then did what the sentence
says; the column *then* names the network that we got, which converts. An entry in bold, or without such a network, is
a known bug.
"""
CONVERTED = "| network | what it has | fp32 | fp16 | int8 |\n|---|---|---:|---:|---:|\n"
REFUSED = "| network | what it has | refused by | in these words | then |\n|---|---|---|---|---|\n"


def outcomes(folder: Path, names: list[str] | None = None) -> list[dict[str, Any]]:
    """What became of the networks, as tests.networks.cast tells it, in a copy of the tree in a folder."""
    tree = folder / "tree"
    engines.copy(tree)
    shutil.copytree(ROOT / "tests/networks", tree / "tests/networks")
    (tree / "tests/__init__.py").touch()
    out = folder / "outcomes.json"
    if subprocess.run(["scripts/in", "torch", "python", "-m", "tests.networks.cast", out, *(names or [])], cwd=tree,
                      env={**os.environ, "ENGINE": "venv"}, check=False).returncode:
        raise Refusal("the networks: expected an outcome of each, found what is said above: mend it")
    return json.loads(out.read_text())


def text(found: list[dict[str, Any]]) -> str:
    """The page."""
    parts = [HEAD.format(most=MOST)]
    for framework, title in TITLES.items():
        own = [one for one in found if one["framework"] == framework]
        for head, rows in ((CONVERTED, [row(one) for one in own if "snr_db" in one]),
                           (REFUSED, [row(one) for one in own if "snr_db" not in one])):
            if rows:
                what = "convert" if head == CONVERTED else "don't"
                parts.append(f"\n## {title}: {len(rows)} that {what}\n\n{head}" + "".join(rows))
    return "".join(parts)


def row(one: dict[str, Any]) -> str:
    """A network's line: its figures, or what is said instead."""
    if "snr_db" in one:
        wrong = " **not equal**" if one["kind"] == "wrong" else ""
        cells = [one["shows"] + wrong, *(figure(one["snr_db"][variant]) for variant in ("fp32", "fp16", "int8"))]
    else:
        where = f"**{one['where']}, which fails**" if one["kind"] == "fails" else one["where"]
        then = f"{one['did']}: `{one['then']}`" if one["then"] else ""
        cells = [one["shows"], where, one["said"].replace("|", "\\|"), then]
    return f"| `{one['name']}` | {' | '.join(cells)} |\n"


def figure(snr: float) -> str:
    return f"≥ {MOST}" if snr >= MOST else f"{snr:.0f}"


def rows(page: str) -> dict[str, str]:
    """The lines of a page, by network. A name that has several has those of all."""
    found: dict[str, str] = {}
    for line, name in re.findall(r"^(\| `(\w+)` \|.*\n)", page, re.MULTILINE):
        found[name] = found.get(name, "") + line
    return found


def held(line: str, one: dict[str, Any]) -> bool:
    """Whether a line says what became of a network, its figures within what another CPU may change."""
    told, found = (re.split(r"(?<=\| )(?:≥ )?(-?\d+)(?= \|)", text) for text in (line, row(one)))
    return told[::2] == found[::2] and all(
        abs(int(one) - int(other)) <= SLACK for one, other in zip(told[1::2], found[1::2], strict=True))
