"""What is known of the authors' weights before they are fetched: checksums/sources.toml, read strictly.

Runs on the machine's own Python 3.11, as the driver does.
"""

import functools
import os
import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from scripts import checksums, proof, tfjs
from scripts.job import Refusal
from scripts.recipe import Where, find_flaw, line_of
from scripts.unpack import MOST_BYTES

RECORD = "checksums/sources.toml"
DIGITS = {"sha256": 64, "md5": 32, "git_blob": 40}  # of the hashes that the record may have
GRADES = ("pinned", "reported")
KNOWN = {"bytes?": int, "grade": str, "from": str, **{f"{name}?": str for name in DIGITS}}
SCHEMA = {"*": {"title": str, "url": str, "layout": str, "listing?": str, "attribution": str, "licence": str,
                "licence_text": str, "bytes?": int, "files?": {"*": KNOWN}, "members?": {"*": KNOWN},
                "sums?": {"file": str, "grade": str, "from": str}}}
LANDMARKS = {"archive": None, "objects": "checkpoint", "tfjs": tfjs.MANIFEST}  # the file that each layout has
SLACK = 2  # as many times the known size is fetched at most
Told = dict[str, Any]


def read(root: Path) -> dict[str, Told]:
    """Every source by its name, a list that one names as its `files`.

    Raises Refusal naming file, line and key for whatever is wrong there.
    """
    path = root / RECORD
    told = parsed(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {name: {**one, "files": listed(path.parent, one["sums"])} if "sums" in one else one
            for name, one in told.items()}


@functools.cache
def parsed(text: str) -> dict[str, Told]:
    try:
        told = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Refusal(f"{RECORD}: not TOML: {error}") from None
    if flaw := find_flaw(told, SCHEMA, ()) or find_contradiction(told):
        raise Refusal(f"{RECORD}:{line_of(text, flaw[0])}: {flaw[1]}")
    return told


def find_contradiction(told: dict[str, Told]) -> tuple[Where, str] | None:
    """The first place where a well-formed record says what can't be, and what is wrong there."""
    for name, one in told.items():
        if one["layout"] not in LANDMARKS:
            return (name, "layout"), f"unknown layout {one['layout']!r}; known are {', '.join(LANDMARKS)}"
        if "sums" in one and (one["layout"] != "objects" or "files" in one):
            return (name, "sums"), f"{name}.sums is for a source of objects without a table of files"
        if "members" in one and one["layout"] != "archive":
            return (name, "members"), f"{name}.members is for a source that is an archive"
        entries = {("sums",): one["sums"]} if "sums" in one else {}
        entries |= {(kind, file): entry for kind in ("files", "members") for file, entry in one.get(kind, {}).items()}
        for where, entry in entries.items():
            place = ".".join((name, *where))
            if entry["grade"] not in GRADES:
                return (name, *where), f"unknown grade {entry['grade']!r} of {place}; known are {', '.join(GRADES)}"
            for kind, digits in DIGITS.items():
                if kind in entry and not re.fullmatch(rf"[0-9a-f]{{{digits}}}", entry[kind]):
                    return (name, *where), f"{place}.{kind} must be {digits} hexadecimal digits, found {entry[kind]!r}"
    return None


def listed(folder: Path, sums: Told) -> Told:
    """The files of a list in the format of SHA256SUMS, each with the list's grade and where that is from."""
    found = checksums.listed(folder / sums["file"], f"checksums/{sums['file']}", "restore it from git")
    if not found:
        raise Refusal(f"checksums/{sums['file']}: expected the hashes that {RECORD} names, found none: restore it from "
                      "git")
    return {name: {"sha256": digest, "grade": sums["grade"], "from": sums["from"]} for name, digest in found.items()}


def get(root: Path, name: str) -> Told:
    """One source. Raises Refusal where there is none of this name."""
    told = read(root)
    if name not in told:
        raise Refusal(f"no source {name!r}: expected one of {', '.join(told)} in {RECORD}")
    return told[name]


def cache() -> Path:
    """The folder that all builds share, a folder a source in it."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "bellfoundry" / "sources"


def file_name(told: Told) -> str:
    """The last part of a source's address: an archive's name, or that of a folder of files."""
    return unquote(urlsplit(told["url"]).path.rstrip("/").rpartition("/")[2])


def find(name: str, told: Told, folder: Path) -> Path | None:
    """Where a source lies in a folder, NAME/FILE or just FILE: the archive, or the folder of its files; None if not."""
    last, landmark = file_name(told), LANDMARKS[told["layout"]]
    ways = [folder / name / last, folder / last] if landmark is None else [folder / name, folder / last]
    return next((way for way in ways if (way if landmark is None else way / landmark).is_file()), None)


def known(told: Told) -> bool:
    """Whether every byte that a build takes from the source is known by some hash: of an archive by its members' or,
    without any, by its own.
    """
    entries = told.get("members") or told.get("files", {})
    return named(told) and bool(entries) and all(map(hashed, entries.values()))


def named(told: Told) -> bool:
    """Whether the record names all files: those of a bucket in a list, those of TensorFlow.js beside their manifest."""
    return {"archive": True, "objects": "sums" in told, "tfjs": len(told.get("files", {})) > 1}[told["layout"]]


def hashed(entry: Told) -> bool:
    return any(name in entry for name in proof.HASHES)


def pinned(entry: Told) -> bool:
    """Whether a file is known by a hash that nothing overrules."""
    return entry.get("grade") == "pinned" and hashed(entry)


def size(told: Told) -> int | None:
    """How many bytes all files of a source have, as far as that is known; of an archive, or else of what it holds."""
    if "bytes" in told:
        return told["bytes"]
    for kind in ("files", "members"):
        sizes = [entry.get("bytes") for entry in told.get(kind, {}).values()]
        if named(told) and sizes and None not in sizes:
            return sum(sizes)
    return None


def most(told: Told) -> int:
    """How many bytes of a source are fetched at most."""
    return min(MOST_BYTES, SLACK * (size(told) or MOST_BYTES))


def proofs(told: Told) -> dict[str, dict[str, Told]]:
    """What the files, and an archive's members, must be; without where that is known from, and how well."""
    return {kind: {name: {key: value for key, value in entry.items() if key not in ("from", "grade")}
                   for name, entry in told.get(kind, {}).items()} for kind in ("files", "members")}


def vouch(told: Told, folder: Path, digests: dict[str, str]) -> str:
    """What can be said of where a user's own checkpoint is from, in a sentence.

    told: the authors' source of that model, or nothing; digests: the SHA-256 of each file of it, by name in the folder.
    """
    own = {**told.get("files", {}), **told.get("members", {})}

    def same(name: str) -> bool:
        entry = own.get(name, {})
        return digests[name] == entry["sha256"] if "sha256" in entry else (
            hashed(entry) and not proof.flaw(folder / name, entry))

    equal = [name for name in digests if same(name)]
    others = sorted(digests.keys() - set(equal))
    if not others:
        reported = [name for name in equal if own[name]["grade"] == "reported"]
        return (f"all {len(equal)} files are the authors' by hash, as {RECORD} knows them"
                + f" (of {', '.join(reported)} the hash is reported, not verified)" * bool(reported))
    return ("nothing can prove where these bytes are from: names and shapes of arrays are checked, values can't be"
            + f" ({len(equal)} of {len(digests)} files are the authors' by hash, {others[0]} isn't)" * bool(equal))
