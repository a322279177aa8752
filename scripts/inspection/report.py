"""What all readers of `make inspect` share: bounds, reasons, the report that they answer with.

A reader is a process of its own. It gets a path, and prints one JSON object: `sections` (title, columns, rows of texts,
and which columns hold numbers), `lines` of facts, and `next`, sentences about what to do. It never runs what it reads;
what it can't read is one sentence and exit status 2, and a crash or a bomb ends this process alone. Runs on
Python 3.7 and later.
"""

import json
import resource
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

from scripts.job import REFUSED, Refusal

MOST_BYTES = 2**31 - 1  # of a file that is read whole: protobuf's own limit
MOST_MEMORY = 16 * 2**30  # of a reader's addresses, those of shared libraries too
MOST_PLACES = 3
Report = Dict[str, Any]
UNKNOWN = "another file, or a part of one"
LOOKS = (  # what files begin with, to say what was found
    (b"Salted__", "an encrypted file of OpenSSL"), (b"age-encryption.org/", "an encrypted file of age"),
    (b"-----BEGIN PGP", "an encrypted file of PGP"), (b"version https://git-lfs", "a pointer of Git LFS, not its file"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"), (b"PK\3\4", "a zip archive"), (b"\x1f\x8b", "a gzip file"),
    (b"\x80\2", "a pickle"), (b"\x80\4", "a pickle"), (b"<!DOCTYPE", "a web page"), (b"<html", "a web page"),
    (b"{", "a JSON text"), (b"\x93NUMPY", "a NumPy array"), (b"#!", "a script"), (b"\x7fELF", "a program"))


def report(sections: Sequence[Dict[str, Any]], lines: Iterable[str] = (), following: Iterable[str] = ()) -> Report:
    """What a reader answers; sections without rows are left out."""
    return {"sections": [part for part in sections if part["rows"]], "lines": list(lines), "next": list(following)}


def section(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]],
            numbers: Sequence[int] = ()) -> Dict[str, Any]:
    """A table; numbers: the columns to be set flush right."""
    return {"title": title, "columns": list(columns), "rows": [list(map(str, row)) for row in rows],
            "numbers": list(numbers)}


def look(start: bytes) -> str:
    """What a file seems to be, by what it begins with."""
    return next((name for begins, name in LOOKS if start.startswith(begins)), UNKNOWN)


def refusal(path: Path, expected: str, found: str) -> Refusal:
    """The one sentence about a file that isn't what it was given as."""
    return Refusal("{}: expected {}, found {}: fetch or save it again".format(path, expected, found))


def checked(path: Path, expected: str, most: int = MOST_BYTES) -> bytes:
    """The first bytes of a file that is there, isn't empty or too large, and isn't encrypted."""
    if not path.is_file():
        raise refusal(path, expected, "a folder" if path.is_dir() else "none")
    size = path.stat().st_size
    if not 0 < size <= most:
        raise refusal(path, expected, "{:,} bytes, more than {:,}".format(size, most) if size else "an empty file")
    with path.open("rb") as file:
        start = file.read(64)
    if "encrypted" in look(start) or "Git LFS" in look(start):
        raise refusal(path, expected, look(start))
    return start


def read(path: Path, expected: str, most: int = MOST_BYTES) -> bytes:
    """All bytes of such a file."""
    checked(path, expected, most)
    return path.read_bytes()


def model_parsed(message: Any, content: bytes) -> bool:
    """Whether the bytes are such a protobuf; nests of messages end at protobuf's own depth, 100."""
    try:
        message.ParseFromString(content)
    except Exception:  # DecodeError, and what a bomb leads protobuf into
        return False
    return True


def shape_text(dimensions: Any) -> str:
    """A shape: dynamic axes by their name, or as ?; an unknown rank as such."""
    if dimensions is None:
        return "unknown rank"
    return "×".join("?" if size in (None, -1, "") else str(size) for size in dimensions) or "scalar"


def places(names: Iterable[str]) -> str:
    """Where things sit: the scopes of their names, a few of them."""
    scopes: List[str] = []
    for name in names:
        scope = name.rpartition("/")[0] or name
        if scope not in scopes:
            scopes.append(scope)
    more = ["and {} more".format(len(scopes) - MOST_PLACES)] if len(scopes) > MOST_PLACES else []
    return ", ".join(scopes[:MOST_PLACES] + more)


def totals(what: str, count: int, parameters: int, size: int) -> str:
    return "{} {}: {:,} parameters, {:,} bytes".format(count, what, parameters, size)


def outcome(reader: Callable[[Path], Report], path: Path) -> Tuple[Optional[Report], str]:
    """What a reader answers, or the one sentence about why it doesn't."""
    try:
        return reader(path), ""
    except Refusal as error:
        said = str(error)
    except MemoryError:
        said = ("{}: expected a file that fits in {:,} bytes of memory, found one that asks for more: look at a "
                "smaller one, or don't trust it".format(path, MOST_MEMORY))
    except Exception as error:  # the frameworks' readers raise whatever a damaged file leads them into
        said = str(refusal(path, "a file that its framework wrote", "one that can't be read ({}: {})".format(
            type(error).__name__, str(error)[:200])))
    said = " ".join(said.split())
    return None, said if str(path) in said else "{}: {}".format(path, said)


def answer(reader: Callable[[Path], Report], path: Path) -> None:
    """Run a reader and print its report, or end with one sentence and exit status 2."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = MOST_MEMORY if hard == resource.RLIM_INFINITY else min(hard, MOST_MEMORY)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    told, flaw = outcome(reader, path)
    print("\n" + json.dumps(told) if told else "\n" + flaw, file=sys.stdout if told else sys.stderr)
    sys.exit(0 if told else REFUSED)
