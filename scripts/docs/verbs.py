"""The table of docs/verbs.md: every verb of the Makefile, with the text that `make` prints of it."""

import re
from pathlib import Path

HELP = re.compile(r"^([^\s:#=.][^:#=\n]*):[^=#\n]*## (.+)$", re.MULTILINE)
NAMES = {"$(sort $(MODELS))": "<model>", "$(stages)": "<stage>"}  # what stands for several verbs


def table(root: Path) -> list[str]:
    """A row for each verb, in the Makefile's order."""
    verbs = HELP.findall((root / "Makefile").read_text(encoding="utf-8"))
    rows = [(NAMES.get(name, name), text.replace("|", r"\|")) for name, text in verbs]
    return ["| verb | what it does |", "|---|---|", *(f"| `make {name}` | {text} |" for name, text in rows)]
