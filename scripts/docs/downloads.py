"""The tables of docs/released-weights.md, out of checksums/sources.toml: what is fetched, and what is known of it."""

from pathlib import Path
from typing import Any

from scripts import proof, recipe, sources


def addresses(root: Path) -> list[str]:
    """A row for each model with released weights: address, bytes, licence, and how many files are known, and how."""
    lines = ["| model | source | bytes | licence | files known beforehand |", "|---|---|---:|---|---|"]
    for model in recipe.models(root):
        released = recipe.read(root, model)["sources"].get("released")
        if released is None:
            continue
        told = sources.get(root, released["source"])
        entries = list((told.get("members") or told["files"]).values())
        size = sources.size(told) or sum(entry["bytes"] for entry in entries)
        lines.append(f"| {model} | [{sources.file_name(told)}]({told['url']}) | {size:,} | "
                     f"[{told['licence']}]({told['licence_text']}) | {known(entries)} |")
    return lines


def known(entries: list[dict[str, Any]]) -> str:
    """How many files are known in which grade, or by their size alone."""
    grades = [entry["grade"] if sources.hashed(entry) else "by its size" for entry in entries]
    return ", ".join(f"{grades.count(one)} {one}" for one in (*sources.GRADES, "by its size") if one in grades)


def files(root: Path) -> list[str]:
    """A row for each file, or list of files: its bytes, its hash, its grade, and where the hash is from."""
    lines = ["| source | file | bytes | known by | grade | where the hash is from |", "|---|---|---:|---|---|---|"]
    for name, told in sources.read(root).items():
        entries = {file: entry for kind in ("files", "members") for file, entry in told.get(kind, {}).items()}
        if "sums" in told:
            entries = {f"all {len(entries)}": {**told["sums"], "bytes": told["bytes"], "sha256": "of each"}}
        for file, entry in entries.items():
            hashes = [f"{proof.called(one)} {entry[one][:8]}" for one in sources.DIGITS if one in entry]
            size = f"{entry['bytes']:,}" if "bytes" in entry else ""
            lines.append(f"| {name} | {file} | {size} | {', '.join(hashes) or 'its size'} | {entry['grade']} | "
                         f"{entry['from']} |")
    return lines
