"""What a release must be before anything of it is sent: functions that return a sentence on what is wrong, or nothing.

They read the release's folder, dist/<tag>/, as `make package` leaves it, and the git repository that it was made from.
"""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from scripts.job import Refusal

ROOT = Path(__file__).resolve().parent.parent
VERSION = re.compile(r"v(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(?:-rc\.(0|[1-9][0-9]*))?")
SUM = re.compile(r"([0-9a-f]{64}) [ *]([A-Za-z0-9][A-Za-z0-9._-]*)")
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?")  # which GitHub leaves as it is
SUMS, MANIFEST, NOTES = "SHA256SUMS", "manifest.json", "notes.md"
MOST_BYTES, MOST_FILES, MOST_LETTERS = 2**31 - 1, 1000, 125_000  # that GitHub takes: of a file, of a release, of a text
# The licences of weights that allow anyone to hand them on, by their SPDX identifiers.
LICENCES = ("Apache-2.0", "MIT", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-SA-4.0")
CONDITIONAL = re.compile(r"-(NC|SA)(-|$)")  # what whoever takes them must be told
MEMBERS = {"version": str, "weights": str, "commit": str, "models": dict}
AGAIN = "run make package again"


def shown(path: Path) -> str:
    """A path as the user knows it."""
    return (path.relative_to(ROOT) if path.is_relative_to(ROOT) else path).as_posix()


# The folder


def version(tag: str) -> str | None:
    """Whether a tag is a version that can be released."""
    if not VERSION.fullmatch(tag):
        return f"TAG: expected a version such as v1.0.0 or v1.0.0-rc.1, found {tag or 'nothing'}: name one"
    return None


def contents(folder: Path) -> str | None:
    """Whether the folder holds files alone, those that a release needs, named and sized as GitHub takes them."""
    if not folder.is_dir():
        return f"{shown(folder)}: expected the folder of the release, found none: run make package TAG={folder.name}"
    paths = sorted(folder.iterdir())
    for name in (SUMS, MANIFEST, NOTES):
        if not (folder / name).is_file():
            return f"{shown(folder)}: expected {name} in it, found none: {AGAIN}"
    if len(paths) > MOST_FILES:
        return (f"{shown(folder)}: expected at most {MOST_FILES:,} files, which is GitHub's limit, found "
                f"{len(paths):,}: put fewer models into the release")
    return next(filter(None, map(file, paths)), None) or text(folder / NOTES)


def file(path: Path) -> str | None:
    """Whether GitHub takes a file, and under its own name."""
    if not path.is_file():
        return f"{shown(path)}: expected a file, found something else: remove it"
    if not NAME.fullmatch(path.name):
        return (f"{shown(path)}: expected a name of letters, digits, dots, dashes and underscores, found one that "
                "GitHub would change: rename it")
    size = path.stat().st_size
    if size == 0:
        return f"{shown(path)}: expected some bytes, found an empty file, which GitHub doesn't take: {AGAIN}"
    if size > MOST_BYTES:
        return (f"{shown(path)}: expected at most {MOST_BYTES:,} bytes, which is GitHub's limit, found {size:,}: put "
                "its weights into several files")
    return None


def text(notes: Path) -> str | None:
    """Whether the release's text is one, and not too long."""
    try:
        letters = len(notes.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        return f"{shown(notes)}: expected text in UTF-8, found something else: {AGAIN}"
    if letters > MOST_LETTERS:
        return (f"{shown(notes)}: expected at most {MOST_LETTERS:,} letters, which is GitHub's limit, found "
                f"{letters:,}: shorten CHANGELOG.md")
    return None


def read(folder: Path) -> dict[str, Any]:
    """The folder's manifest. Raises Refusal where it is none, or one of another version."""
    path = folder / MANIFEST
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Refusal(f"{shown(path)}: expected JSON, found something else ({error}): {AGAIN}") from None
    for name, kind in MEMBERS.items():
        if not isinstance(told, dict) or not isinstance(told.get(name), kind) or not told[name]:
            raise Refusal(f"{shown(path)}: expected {name} in it, found none: {AGAIN}")
    if told["version"] != folder.name:
        raise Refusal(f"{shown(path)}: expected the version {folder.name}, found {told['version']}: run make package "
                      f"TAG={folder.name}")
    return told


def licences(folder: Path, told: dict[str, Any]) -> str | None:
    """Whether the weights of every model may be handed on, and whoever takes them is told what they must know."""
    for model, one in told["models"].items():
        place, one = f"{shown(folder / MANIFEST)}: models.{model}", one if isinstance(one, dict) else {}
        licence = one.get("weights_licence") or "none"
        if licence not in LICENCES:
            return (f"{place}.weights_licence: expected one that allows anyone to hand the weights on "
                    f"({', '.join(LICENCES)}), found {licence}: leave the model out with MODELS=")
        if not str(one.get("attribution") or "").strip():
            return f"{place}.attribution: expected whom the weights are from, found nothing: name them in the recipe"
        card = folder / f"{model}.md"
        if CONDITIONAL.search(licence) and not (card.is_file() and licence in card.read_text(encoding="utf-8")):
            return (f"{shown(card)}: expected a card that names the licence {licence}, which binds whoever takes the "
                    f"weights, found none: {AGAIN}")
    return None


def recorded(folder: Path, remedy: str = AGAIN) -> dict[str, str]:
    """The SHA-256 of each file, by its name, as SHA256SUMS has it. Raises Refusal for a line that tells none."""
    found = {}
    for number, line in enumerate((folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        parts = SUM.fullmatch(line)
        if not parts or parts[2] in found:
            raise Refusal(f"{shown(folder / SUMS)}:{number}: expected a SHA-256, two spaces and "
                          f"{'another' if parts else 'a'} name, found {line!r}: {remedy}")
        found[parts[2]] = parts[1]
    return found


def hashes(folder: Path, recorded: dict[str, str], found: dict[str, str]) -> str | None:
    """Whether the files are those of SHA256SUMS, none missing and none extra, by their hashes."""
    for name in sorted(set(recorded) | set(found) - {SUMS}):
        if name not in found:
            return f"{shown(folder / name)}: expected a file, as {SUMS} has it, found none: {AGAIN}"
        if name not in recorded:
            return f"{shown(folder / name)}: expected no file that {SUMS} doesn't have, found this one: remove it"
        if found[name] != recorded[name]:
            return (f"{shown(folder / name)}: expected SHA-256 {recorded[name]}, as {SUMS} has it, found "
                    f"{found[name]}: {AGAIN}")
    return None


# Where it is from


def weights(told: dict[str, Any]) -> str | None:
    """Whether the weights are the authors'."""
    if told["weights"] != "released":
        return (f"{told['version']}: expected released weights, found {told['weights']} ones, which can't be "
                f"published: run make package WEIGHTS=released TAG={told['version']}")
    return None


def clean(root: Path) -> str | None:
    """Whether everything in the tree is committed."""
    if changed := git(root, "status", "--porcelain").splitlines():
        return (f"the tree: expected nothing that isn't committed, found {changed[0][3:]}"
                f"{f' and {len(changed) - 1} more' * (len(changed) > 1)}: commit or remove it")
    return None


def tagged(root: Path, tag: str) -> str | None:
    """Whether the tag is there and names the commit that is checked out."""
    named, head = (git(root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").strip()
                   for name in (f"refs/tags/{tag}", "HEAD"))
    if not named:
        return f"{tag}: expected a git tag of that name, found none: make it with git tag {tag}"
    if named != head:
        return (f"{tag}: expected the git tag to name HEAD, which is {head[:12]}, found {named[:12]}: check it out "
                f"with git checkout {tag}")
    return None


def made_here(root: Path, told: dict[str, Any]) -> str | None:
    """Whether the folder was made from the commit that is checked out."""
    head = git(root, "rev-parse", "--verify", "--quiet", "HEAD").strip()
    if told["commit"] != head:
        return (f"{told['version']}: expected files made from HEAD, which is {head[:12]}, found some from "
                f"{told['commit'][:12]}: {AGAIN}")
    return None


def git(root: Path, *words: str) -> str:
    """What git prints; nothing where it finds nothing. Raises Refusal where there is no repository."""
    done = subprocess.run(["git", "-C", root, *words], text=True, capture_output=True, check=False)
    if done.returncode not in (0, 1):  # 1: it found nothing
        raise Refusal(f"{root}: expected a git repository that can be asked, found none ({done.stderr.strip()}): "
                      "release from a clone")
    return done.stdout
