"""Whether a file is the one that somebody knows: by its size and by hashes, read once.

What is known of a file is a table: `bytes`, and any of `sha256`, `md5`, `git_blob` (Git's SHA-1 of it) and `crc32c`,
all in hexadecimal digits.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

HASHES = ("sha256", "md5", "git_blob", "crc32c")  # the strongest first
BLOCK = 1 << 20


def hashes(path: Path, names: Iterable[str]) -> dict[str, str]:
    """The hashes of a file that are named, in hexadecimal digits."""
    makers = {"sha256": hashlib.sha256, "md5": hashlib.md5, "crc32c": castagnoli,
              "git_blob": lambda: hashlib.sha1("blob {}\0".format(path.stat().st_size).encode())}
    running = {name: makers[name]() for name in names}
    with path.open("rb") as file:
        for block in iter(lambda: file.read(BLOCK), b""):
            for one in running.values():
                one.update(block)
    return {name: one.digest().hex() for name, one in running.items()}


def castagnoli() -> Any:
    """CRC-32C, which only the toolchain that fetches needs and has."""
    import google_crc32c

    return google_crc32c.Checksum()


def flaw(path: Path, known: Mapping[str, Any]) -> str:
    """How a file differs from what is known of it: in what, expected and found; nothing where it doesn't."""
    size = path.stat().st_size
    if size != known.get("bytes", size):
        return "expected {:,} bytes, found {:,}".format(known["bytes"], size)
    expected = {name: known[name] for name in HASHES if name in known}
    for name, found in hashes(path, expected).items():
        if found != expected[name]:
            return "expected {} {}, found {}".format(called(name), expected[name], found)
    return ""


def called(name: str) -> str:
    """A hash's name as people write it."""
    return {"sha256": "SHA-256", "md5": "MD5", "git_blob": "Git's blob", "crc32c": "CRC-32C"}[name]
