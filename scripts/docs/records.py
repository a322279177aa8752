"""docs/measured.json and docs/benchmarks.json: what was measured, by the weights and the model.

A record is a JSON object of entries named `<weights>/<model>`, in the order of their names.
"""

import json
from pathlib import Path
from typing import Any

from scripts import manifest
from scripts.job import Refusal

Entry = dict[str, Any]


def read(path: Path) -> dict[str, Entry]:
    """The entries of a record; none where there is no such file. Raises Refusal for one that isn't JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise Refusal(f"docs/{path.name}: expected JSON, found {error}: restore it from git, and run make docs "
                      "again") from None


def write(path: Path, entries: dict[str, Entry]) -> None:
    """Write a record, with a line for each item of an entry's lists and tables, so that changes are easy to review."""
    parts = [f"{json.dumps(name)}: {laid_out(entries[name])}" for name in sorted(entries)]
    path.parent.mkdir(exist_ok=True)
    manifest.write_atomically(path, "{\n" + ",\n".join(parts) + "\n}\n")


def laid_out(entry: Entry) -> str:
    lines = []
    for key, value in entry.items():
        if isinstance(value, list):
            inner = ",\n".join(f"  {json.dumps(one)}" for one in value)
            lines.append(f" {json.dumps(key)}: [\n{inner}\n ]")
        elif isinstance(value, dict):
            inner = ",\n".join(f"  {json.dumps(name)}: {json.dumps(one)}" for name, one in value.items())
            lines.append(f" {json.dumps(key)}: {{\n{inner}\n }}")
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}"
