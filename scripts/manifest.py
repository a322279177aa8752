"""What a stage's folder is made from and holds: its key and its manifest.

A key is the SHA-256 over everything that decides a stage's bytes: the recipe, the code it
runs, the toolchain's lock, the manifests it reads, and the weights. A manifest lists the
reproducible files by size and hash. What is measured on one machine (reference.npz and
answers.npz, whose last bits follow the CPU, and the report) is evidence: its hashes lie with
the timings in timing.json, so that manifests are equal everywhere and damage is noticed all
the same.
"""

import functools
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

EVIDENCE = {"reference.npz", "answers.npz", "report.json", "report.md"}
OWN = {"manifest.json", "timing.json"}
TEXTS = {"scripts/rewrite.py": "scripts/rewrites/*.txt"}  # a module, and the data that it reads
IMPORT = re.compile(r"^\s*(?:from ((?:scripts|models)[\w.]*) import (\([^)]*\)|[^\n#]*)"
                    r"|import ((?:scripts|models)\.[\w.]+))", re.MULTILINE)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Hashes:
    """SHA-256 of files, remembered until the file system says that a file was touched.

    Files are known by inode, so that a folder may be renamed into its place. Any write
    changes a file's ctime, whatever is done to its mtime; only damage below the file system
    goes unseen here, which `make verify`, that reads every byte, finds.
    """

    def __init__(self, store: Path):
        self.store = store
        self.known = self.stored()
        self.changed = False

    def stored(self) -> dict[str, list[Any]]:
        try:
            return json.loads(self.store.read_text())
        except (OSError, ValueError):
            return {}

    def __call__(self, path: Path) -> str:
        stat = path.stat()
        inode, state = f"{stat.st_dev}:{stat.st_ino}", [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        known = self.known.get(inode)
        if known is None or known[:-1] != state:
            known = self.known[inode] = [*state, sha256(path)]
            self.changed = True
        return known[-1]

    def save(self) -> None:
        """Add what was learnt to the store, to which another command may have added meanwhile."""
        if self.changed:
            write_atomically(self.store, json.dumps({**self.stored(), **self.known}))


def write_atomically(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".partial")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def key(parts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@functools.cache
def file_hash(path: Path) -> str:
    return sha256(path)


def code(root: Path, modules: Iterable[str]) -> dict[str, str]:
    """The hashes of the given modules' files and of all files that they import from this
    repository, by path. A model's data files (JSON) count as its code, and so do TEXTS.
    """
    seen: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        path = root / (waiting.pop().replace(".", "/") + ".py")
        name = str(path.relative_to(root))
        if path.is_file() and name not in seen:
            seen[name] = file_hash(path)
            waiting.extend(imported(path))
            if path.parent.parent.name == "models":
                seen |= {str(data.relative_to(root)): file_hash(data) for data in path.parent.glob("*.json")}
            if name in TEXTS:
                seen |= {str(data.relative_to(root)): file_hash(data) for data in root.glob(TEXTS[name])}
    return dict(sorted(seen.items()))


@functools.cache
def imported(path: Path) -> tuple[str, ...]:
    """The modules of this repository that a file imports, anywhere in it.

    Found by pattern: parsing a thousand models' files would take ten times as long.
    """
    modules = []
    for package, names, module in IMPORT.findall(path.read_text(encoding="utf-8")):
        modules += [module] if module else [package, *(f"{package}.{name}" for name in re.findall(r"\w+", names))]
    return tuple(modules)


def pins(lock: Path) -> dict[str, str]:
    """The versions of a requirements.lock."""
    return dict(re.findall(r"^([\w.-]+)==([^\s;\\]+)", lock.read_text(), re.MULTILINE))


def describe(folder: Path, hashes: Hashes) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """A stage folder's reproducible files with size and hash, and the hashes of its evidence."""
    files = {name: path for name, path in walk(folder).items() if name not in OWN}
    outputs = [{"file": name, "bytes": path.stat().st_size, "sha256": hashes(path)}
               for name, path in files.items() if name not in EVIDENCE]
    return outputs, {name: hashes(path) for name, path in files.items() if name in EVIDENCE}


def walk(folder: Path) -> dict[str, Path]:
    """All files below a folder in a fixed order, by names such as target.encoder.encoder_norm.scale/.zarray."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir()]
    return {path.relative_to(folder).as_posix(): path for path in files}


def damage(folder: Path, hashes: Any) -> str | None:
    """What is wrong with a finished stage's folder, or None: the first file missing or changed."""
    try:
        outputs = json.loads((folder / "manifest.json").read_text())["outputs"]
        expected = {file["file"]: file["sha256"] for file in outputs}
        expected |= json.loads((folder / "timing.json").read_text())["evidence"]
    except (OSError, ValueError, KeyError):
        return f"{folder}/manifest.json or timing.json is missing or unreadable"
    for name, expected_hash in expected.items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        if (found := hashes(path)) != expected_hash:
            return f"{path} is damaged: expected SHA-256 {expected_hash}, found {found}"
    strays = set(walk(folder)) - set(expected) - OWN
    return f"{folder / min(strays)} doesn't belong to this build" if strays else None
