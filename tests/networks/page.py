"""docs/supported.md: what became of every network, as a table."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from scripts import engines
from scripts.job import Refusal

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = Path("docs/supported.md")
TITLES = {"tensorflow": "TensorFlow 2.4", "pytorch": "PyTorch", "flax": "Flax"}
MOST = 100  # dB, from which on a figure is rounding's alone, which follows the CPU
HEAD = """\
# What converts

`make supported` writes this page. Each network is small and made by its own framework; `make new` makes a folder of its weights,
into which goes what its user has to put there, and `make` casts it. Then fp32, fp16 and int8 answer inputs of which the build
knows nothing, exact zeros among them, at two sizes of each open axis, and the framework answers them too: the figures are
signal to error in dB, of each 20 are a digit. What isn't converted is refused in the sentence that is told here; the
row below it is the same network after what the sentence says to do.
"""


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
    parts = [HEAD]
    for framework, title in TITLES.items():
        own = [one for one in found if one["framework"] == framework]
        equal = sum(one["kind"] == "equal" for one in own)
        parts.append(f"\n## {title}: {len(own)} networks, {equal} of them converted\n\n"
                     "| network | fp32 | fp16 | int8 |\n|---|---:|---:|---:|\n" + "".join(map(row, own)))
    return "".join(parts)


def row(one: dict[str, Any]) -> str:
    """A line of the table: figures, or what is said instead."""
    name = f"{one['shows']} (`{one['name']}`)"
    if "snr_db" in one:
        cells = [figure(one["snr_db"][variant]) for variant in ("fp32", "fp16", "int8")]
        return f"| {name}{'' if one['kind'] == 'equal' else ' **not equal**'} | {' | '.join(cells)} |\n"
    what = "**fails**" if one["kind"] == "fails" else "refused"
    remedy = f"; {one['did']}: `{one['then']}`" if one["then"] else ""
    said = one["said"].replace("|", "\\|")
    return f"| {name}: {what} by {one['where']}, “{said}”{remedy} | | | |\n"


def figure(snr: float) -> str:
    return f"≥ {MOST}" if snr >= MOST else f"{snr:.0f}"
