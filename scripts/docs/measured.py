"""docs/measured.json: the size of every recorded artifact and what its gates measured, out of the builds' reports.

An entry belongs to one file of checksums/. It is replaced only when that file, or the gates, have changed since: other
machines measure other last digits, which are no news.
"""

import datetime
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts import checksums, manifest
from scripts.bench import machine
from scripts.docs import records

RECORD = Path("docs/measured.json")
DIGITS = 4  # of a figure; the others differ between processors
SHARES = ("agreement", "decision_agreement")  # of the decisions that are the original's


def read(root: Path) -> dict[str, records.Entry]:
    """The entries by `<weights>/<model>`."""
    return records.read(root / RECORD)


def record(root: Path) -> Iterator[str]:
    """Record the figures of the builds that have news, and say so, in a line for each."""
    entries = read(root)
    for path in sorted(root.glob("checksums/*/*.sha256")):
        name = f"{path.parent.name}/{path.stem}"
        if path.parent.name in ("tiny", "sources") or not is_built(root, path):
            continue
        entry = measured(root, path)
        if same(entry, entries.get(name)):
            continue
        entries[name] = entry
        yield f"recorded the figures of {path.stem}, {path.parent.name} weights, in {RECORD}"
    gone = [name for name in entries if not (root / f"checksums/{name}.sha256").is_file()]
    for name in gone:
        del entries[name]
    if entries != read(root):
        records.write(root / RECORD, entries)


def is_built(root: Path, path: Path) -> bool:
    """Whether build/ holds a verified build of the artifacts that a file of checksums/ records."""
    folder = root / "build" / path.parent.name / path.stem
    composed = folder / "compose/manifest.json"
    if not composed.is_file() or manifest.damage(folder / "verify", manifest.sha256):
        return False
    outputs = json.loads(composed.read_text(encoding="utf-8"))["outputs"]
    names = {f"{folder.relative_to(root)}/compose/{one['file']}": one["sha256"] for one in outputs}
    return names == checksums.listed(path, path.relative_to(root), "restore it from git")


def measured(root: Path, path: Path) -> records.Entry:
    """The entry of a build whose artifacts a file of checksums/ records."""
    report = root / "build" / path.parent.name / path.stem / "verify/report.json"
    day = datetime.datetime.fromtimestamp(report.stat().st_mtime, datetime.UTC)
    artifacts = json.loads(report.read_text(encoding="utf-8"))["artifacts"]
    return {"checksums": digest(path), "date": f"{day:%Y-%m-%d}", "machine": machine(),
            "artifacts": [figures(one) for one in artifacts]}


def digest(path: Path) -> str:
    """What tells one state of a file of checksums/ from another."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def figures(artifact: dict[str, Any]) -> dict[str, Any]:
    """What the docs tell of an artifact. artifact: as the stage verify reports it.

    agreement: the lowest share of decisions that are the original's, of all its cases, where it takes decisions.
    """
    shares = [row[key] for row in artifact["measured"] for key in SHARES if key in row]
    return {"file": artifact["file"], "component": artifact["component"], "variant": artifact["variant"],
            "bytes": artifact["bytes"], **({"agreement": rounded(min(shares))} if shares else {}),
            "gates": [{key: rounded(value) if key == "measured" else value for key, value in gate.items()
                       if key not in ("text", "passed")} for gate in artifact["gates"]]}


def rounded(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.{DIGITS}g}")


def same(entry: records.Entry, other: records.Entry | None) -> bool:
    """Whether two entries are of the same artifacts and gates, whatever they measured."""
    return other is not None and shape(entry) == shape(other)


def shape(entry: records.Entry) -> Any:
    artifacts = [{**{key: value for key, value in one.items() if key not in ("agreement", "gates")},
                  "gates": [{key: value for key, value in gate.items() if key != "measured"} for gate in one["gates"]]}
                 for one in entry["artifacts"]]
    return entry["checksums"], artifacts
