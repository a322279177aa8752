"""What differs between two images: python -m scripts.layers FIRST.tar SECOND.tar, each written by `docker save`."""

import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# Why a difference of its kind comes about.
CAUSES = (
    (".pyc", "compiled Python, which carries the time of its source: delete __pycache__, install without compiling"),
    ("/direct_url.json", "pip's note of where a package came from"),
    ("var/log/", "a log, which tells when it was written"),
    ("ld.so.cache", "ldconfig's cache, which tells the files' times"),
    ("machine-id", "the machine's identity, made at random"),
)


class File(NamedTuple):
    kind: bytes
    mode: int
    owner: tuple[int, int]
    modified: int
    link: str
    contents: str  # SHA-256


def layers(archive: Path) -> Iterator[tarfile.TarFile]:
    """An image's layers, lowest first, each opened to be read."""
    with tarfile.open(archive) as image:
        for name in json.load(image.extractfile("manifest.json"))[0]["Layers"]:
            with tarfile.open(fileobj=image.extractfile(name)) as layer:
                yield layer


def files(archive: Path) -> dict[str, File]:
    """Every file of an image's layers, by layer and path."""
    found = {}
    for number, layer in enumerate(layers(archive)):
        for entry in layer:
            contents = hashlib.file_digest(layer.extractfile(entry), "sha256").hexdigest() if entry.isreg() else ""
            found[f"{number}:{entry.name.removeprefix('./')}"] = File(
                entry.type, entry.mode, (entry.uid, entry.gid), int(entry.mtime), entry.linkname, contents)
    return found


def differences(first: Path, second: Path) -> list[str]:
    """A sentence for each file that is not the same in both images."""
    one, other = files(first), files(second)
    said = []
    for name in sorted(set(one) | set(other)):
        if name not in one or name not in other:
            said.append(f"{name} is only in the {'second' if name in other else 'first'}")
        elif one[name] != other[name]:
            fields = [field for field in File._fields if getattr(one[name], field) != getattr(other[name], field)]
            said.append(f"{name} differs in {' and '.join(fields)}")
        else:
            continue
        said[-1] += next((f": {cause}" for part, cause in CAUSES if part in name), "")
    return said or ["the files are the same: only the config differs, that is labels, environment or history"]
