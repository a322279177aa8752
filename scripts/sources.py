"""What is known of the authors' weights before they are fetched: checksums/sources.toml, read strictly.

Runs on the machine's own Python 3.11, as the driver does.
"""

import functools
import os
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from scripts import tfjs
from scripts.job import Refusal
from scripts.proof import HASHES
from scripts.recipe import find_flaw, line_of

RECORD = "checksums/sources.toml"
KNOWN = {"bytes?": int, "from": str, **{f"{name}?": str for name in HASHES}}
SCHEMA = {"*": {"title": str, "url": str, "layout": str, "listing?": str, "attribution": str, "licence": str,
                "licence_text": str, "objects?": int, "bytes?": int, "files?": {"*": KNOWN}, "members?": {"*": KNOWN}}}
LANDMARKS = {"archive": None, "objects": "checkpoint", "tfjs": tfjs.MANIFEST}  # the file that each layout has
Told = dict[str, Any]


def read(root: Path) -> dict[str, Told]:
    """Every source by its name. Raises Refusal naming file, line and key for whatever is wrong there."""
    path = root / RECORD
    return parsed(path.read_text(encoding="utf-8")) if path.is_file() else {}


@functools.cache
def parsed(text: str) -> dict[str, Told]:
    try:
        told = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Refusal(f"{RECORD}: not TOML: {error}") from None
    wrong = next(((name, "layout") for name, one in told.items()
                  if isinstance(one, dict) and one.get("layout") not in LANDMARKS), None)
    flaw = find_flaw(told, SCHEMA, ()) or (wrong and (wrong, f"unknown layout; known are {', '.join(LANDMARKS)}"))
    if flaw:
        raise Refusal(f"{RECORD}:{line_of(text, flaw[0])}: {flaw[1]}")
    return told


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
    """Whether every byte that a build takes from the source is known by some hash.

    An archive is by its own or its members'. Of many files a few may be known by what somebody told of them (MD5);
    all of them are once a first use has recorded their SHA-256s.
    """
    files = told.get("files", {})
    if told["layout"] == "archive":
        return bool(told.get("members")) or hashed(files.get(file_name(told), {}))
    return bool(files) and all("sha256" in entry for entry in files.values())


def hashed(entry: dict[str, Any]) -> bool:
    return any(name in entry for name in HASHES)


def proofs(told: Told) -> dict[str, dict[str, dict[str, Any]]]:
    """What the files, and an archive's members, must be; without where that is known from."""
    return {kind: {name: {key: value for key, value in entry.items() if key != "from"}
                   for name, entry in told.get(kind, {}).items()} for kind in ("files", "members")}
