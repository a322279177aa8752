"""docs/benchmarks.json: what make bench measured, a result for each model; docs/benchmarks.md shows them.

A result is a bench.json as scripts/bench.py writes it. One of toy weights or of the user's own isn't recorded.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from scripts import bench
from scripts.docs import records

RECORD = Path("docs/benchmarks.json")
KINDS = ("bundled", "released", "seeded")


def read(root: Path) -> dict[str, records.Entry]:
    """The results by `<weights>/<model>`."""
    return records.read(root / RECORD)


def record(root: Path) -> Iterator[str]:
    """Record the results in build/ that aren't older than the recorded ones, and say so, in a line for each."""
    entries = read(root)
    for kind in KINDS:
        for path in sorted(root.glob(f"build/{kind}/*/bench/bench.json")):
            result = json.loads(path.read_text(encoding="utf-8"))
            name = f"{kind}/{result['model']}"
            if result.get("ratios") and result["date"] >= entries.get(name, {}).get("date", "") and (
                    result != entries.get(name)):
                entries[name] = result
                yield f"recorded the benchmark of {result['model']}, {kind} weights, in {RECORD}"
    if entries != read(root):
        records.write(root / RECORD, entries)


def section(root: Path, model: str) -> list[str]:
    """Every result of a model: a table, and the picture of it."""
    lines: list[str] = []
    for name, result in read(root).items():
        if result["model"] == model:
            lines += ["", *bench.table(result), "", f"![{alt(result)}]({picture(name).name})"]
    return [*(lines or ["", "Not measured yet: `make bench`, then `make docs`."]), ""]


def alt(result: records.Entry) -> str:
    return f"Bars: how many times as fast as the original each artifact of {result['model']} runs"


def picture(name: str) -> Path:
    """Where the picture of an entry lies, from the repository's root."""
    kind, model = name.split("/")
    return Path(f"docs/bench-{model}{'' if kind in ('bundled', 'seeded') else f'-{kind}'}.svg")
