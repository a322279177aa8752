"""Unpacks archives that nobody vouches for: plain files and folders, inside the folder, or nothing at all.

As Python's own data filter for tars (PEP 706), which Python 3.7 lacks and zips never had, and stricter: no links of
any kind. Modes, owners and times aren't kept. Runs on Python 3.7 and later.
"""

import errno
import io
import math
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, Any, Callable, Iterator, NamedTuple, Set

from scripts.job import Refusal

MOST_BYTES = 8 * 10**9
MOST_MEMBERS = 10_000
MOST_HEADERS = 1 << 22  # bytes of a zip's directory, or of a tar's headers in front of a member
LEAST_READ = 1 << 14  # what a read counts at least: tarfile recurses with each header
MOST_NAME = 255  # bytes of a part of a path, as file systems have it
MOST_PATH = 1000  # bytes of a path
MOST_DEPTH = 32  # parts of a path
BLOCK = 1 << 20
ZIP = (b"PK\3\4", b"PK\5\6")  # with members, without
# What compressed files begin with, and what undoes each.
PACKED = ((b"\x1f\x8b", "gunzip"), (b"BZh", "bunzip2"), (b"\xfd7zXZ", "unxz"), (b"\x28\xb5\x2f\xfd", "unzstd"),
          (b"7z\xbc\xaf", "7z x"), (b"Rar!", "unrar x"))


class Member(NamedTuple):
    name: str
    bytes: int  # as declared
    folder: bool
    flaw: str  # why it can't be unpacked whatever its name is, or nothing
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar, or a zip, by what it begins with, into a folder that isn't there yet.

    Raises Refusal naming the member that would lie outside of the folder, is no plain file, comes twice, is encrypted
    or larger than it says; and on an archive that is damaged or huge. The caller removes what was unpacked before.
    """
    with archive.open("rb") as file:
        head = file.read(8)
    for begins, undo in PACKED:
        if head.startswith(begins):
            raise Refusal("{}: expected a tar or zip archive, found a compressed one: undo that first, with {} "
                          "{}".format(archive, undo, archive))
    members = from_zip if head[:4] in ZIP else from_tar
    taken: Set[PurePosixPath] = set()
    folders = {PurePosixPath()}
    room = MOST_BYTES
    try:
        for number, member in enumerate(members(archive)):
            name = PurePosixPath(member.name)
            flaw = member.flaw or outside(member.name)
            room -= member.bytes
            if room < 0 or number == MOST_MEMBERS:
                flaw = flaw or "makes it larger than {:,} bytes or {:,} members".format(MOST_BYTES, MOST_MEMBERS)
            if name in taken or (not member.folder and name in folders) or taken.intersection(name.parents):
                flaw = flaw or "comes twice"
            if flaw:
                raise Refusal("{}: {!r} {}: nothing is used of it, get it from its authors".format(
                    archive, member.name, flaw))
            folders.update([name, *name.parents] if member.folder else name.parents)
            if member.folder or name.name.startswith("._"):  # which macOS adds
                continue
            taken.add(name)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with member.open() as source, (folder / name).open("wb") as target:
                if not copy(source, target, member.bytes):
                    raise Refusal("{}: {!r} isn't of the {:,} bytes that it declares: fetch the archive again".format(
                        archive, member.name, member.bytes))
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, UnicodeError, NotImplementedError,
            RuntimeError, ValueError, LookupError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which is a place in front of the file
            raise
        raise Refusal("{}: expected a tar or zip archive of a checkpoint, found one that can't be read ({}): fetch it "
                      "again".format(archive, error)) from error


def outside(name: str) -> str:
    """Why a name isn't that of a file inside, or nothing. What only Windows takes for a way out is one too."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or str(path)[1:2] == ":" or "\0" in name:
        return "lies outside of the archive"
    long = len(path.parts) > MOST_DEPTH or any(len(part.encode()) > MOST_NAME for part in path.parts)
    return "has a name that is too long" if long or len(name.encode()) > MOST_PATH else ""


def copy(source: IO[bytes], target: IO[bytes], size: int) -> bool:
    """Copy so many bytes; whether these were all."""
    while size > 0:
        block = source.read(min(BLOCK, size))
        if not block:
            return False
        target.write(block)
        size -= len(block)
    return not source.read(1)


class Sparing(io.BufferedReader):
    """A file of which no more is read than is left, whatever its headers ask for: they are read into memory whole."""
    left: float = MOST_HEADERS

    def read(self, size: int = -1) -> bytes:
        self.left -= max(size, LEAST_READ)
        if self.left < 0:
            raise ValueError("its headers take more than {:,} bytes".format(MOST_HEADERS))
        return super().read(size)


def from_tar(archive: Path) -> Iterator[Member]:
    """Members of a tar that isn't compressed: what it says of sizes can't be more than the file itself holds."""
    def flaw(told: tarfile.TarInfo) -> str:
        if told.size < 0:
            return "is of a negative size"
        plain = told.isdir() or (told.isreg() and not told.issparse())
        return "" if plain else "is a link, a device or sparse, no file"

    def member(told: tarfile.TarInfo, tar: Any) -> Member:
        return Member(told.name, told.size, told.isdir(), flaw(told), lambda: tar.extractfile(told))

    with Sparing(io.FileIO(str(archive))) as file, tarfile.open(fileobj=file, mode="r:") as tar:
        for told in tar:
            file.left = math.inf
            yield member(told, tar)
            file.left = MOST_HEADERS
            tar.members.clear()  # each holds all that global headers said before
            tar.pax_headers.clear()
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile ends at what is no header, too
            raise tarfile.ReadError("it has no end")


def from_zip(archive: Path) -> Iterator[Member]:
    """Members of a zip. zipfile compares each with its CRC-32 and with the name in front of it."""
    def flaw(told: zipfile.ZipInfo) -> str:
        kind = stat.S_IFMT(told.external_attr >> 16)
        if told.flag_bits & 0x41:
            return "is encrypted"
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            return "is a link or a device, no file"
        # Others than deflate write without bounds what a few bytes ask for.
        known = told.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        return "" if known else "is packed otherwise than deflated"

    def member(told: zipfile.ZipInfo, packed: zipfile.ZipFile) -> Member:
        name = told.orig_filename
        return Member(name, told.file_size, name.endswith("/"), flaw(told), lambda: packed.open(told))

    with Sparing(io.FileIO(str(archive))) as file, zipfile.ZipFile(file) as packed:
        file.left = math.inf
        for told in packed.infolist():
            yield member(told, packed)
