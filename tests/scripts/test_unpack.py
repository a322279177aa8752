"""Archives of strangers: what they hold lies inside the folder afterwards, or they are refused in one sentence."""

import errno
import hashlib
import inspect
import io
import json
import stat
import struct
import sys
import tarfile
import tracemalloc
import warnings
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts import unpack
from scripts.job import Refusal
from tests.conftest import run

KINDS = ("tar", "zip")
UNREADABLE = "expected a tar or zip archive of a checkpoint, found one that can't be read ("
HEADER, ENTRY, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"  # what begins a zip's member, its entry in the directory, the end


def tar(*members, format: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar of members, each a name, its content and, where need be, what else its header says."""
    return b"".join(block(*member, format=format) for member in members) + bytes(2 * tarfile.BLOCKSIZE)


def block(name: str, content: bytes, said: dict | None = None, format: int = tarfile.GNU_FORMAT) -> bytes:
    """A member of a tar. One whose name ends in a slash is a folder."""
    told = tarfile.TarInfo(name)
    told.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
    told.size = len(content)
    for key, value in (said or {}).items():
        setattr(told, key, value)
    return told.tobuf(format) + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def summed(header: bytes) -> bytes:
    """A tar's header with the checksum that is right for it."""
    return header[:148] + b"%06o\0 " % tarfile.calc_chksums(header)[0] + header[156:]


def packed(*members, packing: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of members, as tar makes one."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that come twice
        for name, content, *said in members:
            told = zipfile.ZipInfo()
            told.compress_type = packing
            for key, value in {"filename": name, **dict(*said)}.items():
                setattr(told, key, value)
            archive.writestr(told, content)
    return file.getvalue()


def pack(kind: str, *members) -> bytes:
    return tar(*members) if kind == "tar" else packed(*members)


def patched(archive: bytes, mark: bytes, at: int, new: bytes) -> bytes:
    """A zip with other bytes so far behind the last such mark."""
    place = archive.rindex(mark) + at
    return archive[:place] + new + archive[place + len(new):]


def declared(archive: bytes, packed_size: int, size: int) -> bytes:
    """A zip whose last member declares other sizes, in its header and in the directory."""
    sizes = struct.pack("<2L", packed_size, size)
    return patched(patched(archive, HEADER, 18, sizes), ENTRY, 20, sizes)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def tried(here: Path, content: bytes) -> tuple[str, dict[str, bytes]]:
    """Why an archive is refused, or nothing, and the files in its folder.

    The test fails where anything appears outside of the folder, or what appears inside isn't plain.
    """
    archive, folder = here / "archive", here / "deep/folder"
    archive.write_bytes(content)
    folder.parent.mkdir()
    try:
        unpack.unpack(archive, folder)
        refusal = ""
    except Refusal as refused:
        refusal = str(refused)
        assert refusal.startswith(f"{archive}: ") and "\n" not in refusal
    everything = set(here.rglob("*"))
    assert {path for path in everything if folder not in path.parents} - {folder} == {archive, folder.parent}
    assert all(path.is_dir() or path.is_file() for path in everything) and not any(map(Path.is_symlink, everything))
    assert not folder.is_file() and archive.read_bytes() == content
    return refusal, files(folder)


def refused(here: Path, content: bytes) -> str:
    refusal, _ = tried(here, content)
    assert refusal, "it was unpacked"
    return refusal


def unpacked(here: Path, content: bytes) -> dict[str, bytes]:
    refusal, found = tried(here, content)
    assert not refusal
    return found


# What is unpacked

PLAIN = {"a": b"one", "b/c": b"", "b/d/e": bytes(range(256)) * 5000, "f g/\u00e9": b"two"}
NAMES = dict.fromkeys(("a..b", "...", ".a/..b", "ab:c", "a" * 255, "/".join(["a" * 100] * 9), "PKa", "~"), b"x")
TAKEN = {
    "stored zip": (packed(*PLAIN.items()), PLAIN),
    "deflated zip": (packed(*PLAIN.items(), packing=zipfile.ZIP_DEFLATED), PLAIN),
    "zip with folders": (packed(("b/", b""), *PLAIN.items(), ("b/d/", b"")), PLAIN),
    "ustar": (tar(*PLAIN.items(), format=tarfile.USTAR_FORMAT), PLAIN),
    "GNU tar": (tar(*PLAIN.items(), format=tarfile.GNU_FORMAT), PLAIN),
    "pax": (tar(*PLAIN.items(), format=tarfile.PAX_FORMAT), PLAIN),
    "tar with folders": (tar(("./", b""), ("b/", b""), *PLAIN.items(), ("b/", b"")), PLAIN),
    "tar that begins with a dot": (tar(*((f"./{name}", content) for name, content in PLAIN.items())), PLAIN),
    "tar with a header for all": (block("", b"16 comment=none\n", {"type": tarfile.XGLTYPE}) + tar(*PLAIN.items()),
                                  PLAIN),
    "tar whose name begins as a zip does": (tar(("PK", b"x")), {"PK": b"x"}),
    **{f"odd names in a {kind}": (pack(kind, *NAMES.items()), NAMES) for kind in KINDS},
    **{f"macOS' own in a {kind}": (pack(kind, ("._b", b"x"), ("b", b"y"), ("__MACOSX/c/._d", b"z")), {"b": b"y"})
       for kind in KINDS},
    **{f"folders only in a {kind}": (pack(kind, ("a/", b""), ("a/b/", b""), ("a/", b"")), {}) for kind in KINDS},
    **{f"nothing in a {kind}": (pack(kind), {}) for kind in KINDS},
}


@pytest.mark.parametrize(("content", "found"), TAKEN.values(), ids=TAKEN)
def test_plain_files_are_unpacked_as_they_are(tmp_path, content, found):
    assert unpacked(tmp_path, content) == found


@pytest.mark.parametrize("content", [
    tar(("a", b"x", {"mode": 0o4755, "uid": 4321, "gid": 4321, "mtime": 1})),
    packed(("a", b"x", {"external_attr": (stat.S_IFREG | 0o4755) << 16})),
], ids=KINDS)
def test_what_is_unpacked_is_as_any_new_file(tmp_path, content):
    """No setuid, not executable, of the user, of today."""
    unpacked(tmp_path, content)
    found, new = tmp_path / "deep/folder/a", tmp_path / "new"
    new.touch()
    assert found.stat().st_mode == new.stat().st_mode
    assert (found.stat().st_uid, found.stat().st_gid) == (new.stat().st_uid, new.stat().st_gid)
    assert abs(found.stat().st_mtime - new.stat().st_mtime) < 3600


# What is refused by its name

OUTSIDE = {f"{name!r} in a {kind}": (pack(kind, (name, b"evil")), f"{name!r} lies outside of the archive")
           for kind in KINDS for name in (
               "../x", "..", "a/../../x", "a/..", "../._x", "/dev/null/x", "//dev/null/x",
               "a\\..\\x", "..\\x", "\\x", "\\\\host\\x", "C:x", "C:/x", "C:\\x", "./C:x")}
OUTSIDE.update({
    "folder in a tar": (tar(("../x/", b"")), "'../x' lies outside"),
    "folder in a zip": (packed(("../x/", b"")), "'../x/' lies outside"),
    "path of a pax header": (tar(("a", b"evil", {"pax_headers": {"path": "../x"}}), format=tarfile.PAX_FORMAT),
                             "'../x' lies outside"),
    "NUL in a pax header": (tar(("a", b"evil", {"pax_headers": {"path": "a\0b"}}), format=tarfile.PAX_FORMAT),
                            r"'a\x00b' lies outside"),
    "NUL in a zip": (packed(("a\0b", b"evil")), r"'a\x00b' lies outside"),
    "NUL that begins a name": (packed(("\0a", b"evil")), r"'\x00a' lies outside"),
    "NUL behind a folder": (packed(("a/\0", b"evil")), r"'a/\x00' lies outside"),
})


@pytest.mark.parametrize(("content", "said"), OUTSIDE.values(), ids=OUTSIDE)
def test_a_name_that_leads_outside_is_refused(tmp_path, content, said):
    assert said in refused(tmp_path, content)


@pytest.mark.parametrize("kind", KINDS)
def test_a_place_that_could_be_written_to_is_refused_all_the_same(tmp_path, kind):
    name = f"{tmp_path}/planted"
    assert f"{name!r} lies outside" in refused(tmp_path, pack(kind, (name, b"evil")))


TOO_LONG = {f"{what} in a {kind}": (pack(kind, (name, b"x")), f"{name!r} has a name that is too long")
            for kind in KINDS for what, name in {
                "256 bytes": "a" * 256, "folder of 256 bytes": "b/" + "a" * 256 + "/c",
                "130 letters of two bytes": "\u00e9" * 130, "33 parts": "a/" * 32 + "a",
                "1,001 bytes": ("a" * 200 + "/") * 4 + "a" * 197, "3,001 parts": "a/" * 3000 + "a"}.items()}


@pytest.mark.parametrize(("content", "said"), TOO_LONG.values(), ids=TOO_LONG)
def test_a_name_that_is_too_long_is_refused(tmp_path, content, said):
    assert said in refused(tmp_path, content)


NO_FILE = "is a link, a device or sparse, no file"
NO_FILES = {
    **{f"{what} in a tar": (tar(("odd", b"", {"type": kind, "linkname": link})), f"'odd' {NO_FILE}")
       for what, kind, link in (
           ("symbolic link", tarfile.SYMTYPE, "/etc/passwd"), ("hard link", tarfile.LNKTYPE, "../x"),
           ("FIFO", tarfile.FIFOTYPE, ""), ("character device", tarfile.CHRTYPE, ""),
           ("block device", tarfile.BLKTYPE, ""), ("sparse file", tarfile.GNUTYPE_SPARSE, ""),
           ("unknown kind", b"Z", ""))},
    "link to a file before": (tar(("a", b"x"), ("odd", b"", {"type": tarfile.LNKTYPE, "linkname": "a"})),
                              f"'odd' {NO_FILE}"),
    "folder through a link": (tar(("odd", b"", {"type": tarfile.SYMTYPE, "linkname": ".."}), ("odd/x", b"evil")),
                              f"'odd' {NO_FILE}"),
    **{f"sparse file of GNU's {version}": (tar(("odd", content, {"pax_headers": told}), format=tarfile.PAX_FORMAT),
                                           f"'odd' {NO_FILE}")
       for version, content, told in (
           ("0.0", b"", {"GNU.sparse.size": "9", "GNU.sparse.offset": "0", "GNU.sparse.numbytes": "0"}),
           ("0.1", b"", {"GNU.sparse.map": "0,0", "GNU.sparse.size": "9"}),
           ("1.0", b"1\n0\n0\n".ljust(512, b"\0"), {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}))},
    **{f"{what} in a zip": (packed(("odd", b"/etc/passwd", {"external_attr": (kind | 0o777) << 16})),
                            "'odd' is a link or a device, no file")
       for what, kind in (("symbolic link", stat.S_IFLNK), ("FIFO", stat.S_IFIFO), ("socket", stat.S_IFSOCK),
                          ("character device", stat.S_IFCHR), ("block device", stat.S_IFBLK))},
}


@pytest.mark.parametrize(("content", "said"), NO_FILES.values(), ids=NO_FILES)
def test_what_is_no_plain_file_is_refused(tmp_path, content, said):
    assert said in refused(tmp_path, content)


TWICE = {f"{first!r} and {second!r} in a {kind}": (pack(kind, (first, b""), (second, b"")), second.rstrip("/"))
         for kind in KINDS for first, second in (
             ("a", "a"), ("./a", "a"), ("a", "./a"), ("a", ".//a"), ("b/a", "b/./a"), ("a", "a/b"), ("a", "a/b/c"),
             ("a/b", "a"), ("a/b/c", "a"), ("a", "a/"), ("a/", "a"))}
TWICE.update({f"file named {name!r} in a {kind}": (pack(kind, (name, b"x")), name)
              for kind in KINDS for name in ("", ".", "./.")})


@pytest.mark.parametrize(("content", "name"), TWICE.values(), ids=TWICE)
def test_a_name_that_comes_twice_is_refused(tmp_path, content, name):
    """And a file in the place of a folder, such as the one that is filled, or a folder in that of a file."""
    refusal = refused(tmp_path, content)
    assert f": {name!r} comes twice" in refusal or f": '{name}/' comes twice" in refusal


UNFIT = {
    "encrypted": (patched(patched(packed(("odd", b"x")), HEADER, 6, b"\1"), ENTRY, 8, b"\1"), "'odd' is encrypted"),
    "strongly encrypted": (patched(packed(("odd", b"x")), ENTRY, 8, b"\x41"), "'odd' is encrypted"),
    **{name: (packed(("odd", b"x" * 999), packing=packing), "'odd' is packed otherwise than deflated")
       for name, packing in (("bzip2", zipfile.ZIP_BZIP2), ("lzma", zipfile.ZIP_LZMA))},
    "unknown packing": (patched(packed(("odd", b"x")), ENTRY, 10, b"\x5d"), "'odd' is packed otherwise than deflated"),
    "negative size": (tar(("odd", b"", {"size": -1024})), "'odd' is of a negative size"),
    "negative size that makes room": (tar(("odd/", b"", {"size": -10**18}), ("a", b"x")),
                                      "'odd' is of a negative size"),
    "negative size in a pax header": (tar(("odd", b"", {"size": -5000}), format=tarfile.PAX_FORMAT),
                                      "'odd' is of a negative size"),
}


@pytest.mark.parametrize(("content", "said"), UNFIT.values(), ids=UNFIT)
def test_a_member_that_no_one_can_vouch_for_is_refused(tmp_path, content, said):
    assert said in refused(tmp_path, content)


# What is refused for its size


@pytest.mark.parametrize("kind", KINDS)
def test_more_bytes_than_the_bound_are_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(unpack, "MOST_BYTES", 5)
    assert "'b' makes it larger than 5 bytes" in refused(tmp_path, pack(kind, ("a", b"123"), ("b", b"456")))


@pytest.mark.parametrize("kind", KINDS)
def test_as_many_bytes_as_the_bound_are_taken(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(unpack, "MOST_BYTES", 6)
    assert len(unpacked(tmp_path, pack(kind, ("a", b"123"), ("b", b"456")))) == 2


@pytest.mark.parametrize("name", ["c", "c/", "._c"])
@pytest.mark.parametrize("kind", KINDS)
def test_more_members_than_the_bound_are_refused(tmp_path, monkeypatch, kind, name):
    monkeypatch.setattr(unpack, "MOST_MEMBERS", 2)
    assert "or 2 members" in refused(tmp_path, pack(kind, ("a", b""), ("b", b""), (name, b"")))


@pytest.mark.parametrize("kind", KINDS)
def test_as_many_members_as_the_bound_are_taken(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(unpack, "MOST_MEMBERS", 2)
    assert len(unpacked(tmp_path, pack(kind, ("a", b""), ("b", b"")))) == 2


@pytest.mark.parametrize("size", [10**10, 2**62, 2**80])
def test_what_is_declared_too_large_is_refused_before_anything_is_written(tmp_path, size):
    assert "'a' makes it larger than 8,000,000,000 bytes" in refused(tmp_path, tar(("a", b"x", {"size": size})))
    assert not (tmp_path / "deep/folder").exists()


HUGE = {
    **{f"{what} of 2^{power}": tar(("a", b"", {"type": kind, "size": 2**power}), ("b", b"x"))
       for what, kind in (("long name", tarfile.GNUTYPE_LONGNAME), ("long link", tarfile.GNUTYPE_LONGLINK),
                          ("pax header", tarfile.XHDTYPE), ("header for all", tarfile.XGLTYPE))
       for power in (32, 62, 80)},
    "long name of the second member": tar(("a", b"x"), ("b", b"", {"type": tarfile.GNUTYPE_LONGNAME, "size": 2**32})),
    "long name indeed": tar(("a", b"a" * 5_000_000, {"type": tarfile.GNUTYPE_LONGNAME}), ("b", b"x")),
    "long map of a sparse file": tar(("a", b"1400000\n" + b"0\n" * 2_800_000,
                                      {"pax_headers": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}}),
                                     format=tarfile.PAX_FORMAT),
    "long directory of a zip": b"PK\3\4" + (ENTRY + bytes(24) + b"\1" + bytes(17) + b"/") * 100_000 + struct.pack(
        "<4s4H2LH", END, 0, 0, 34464, 34464, 47 * 100_000, 4, 0),
}


@pytest.mark.parametrize("content", HUGE.values(), ids=HUGE)
def test_headers_that_would_fill_the_memory_are_refused(tmp_path, content):
    assert "its headers take more than 4,194,304 bytes" in refused(tmp_path, content)


def test_what_headers_say_is_forgotten_with_their_member(tmp_path):
    """3,000 words for all that follow, in front of each of 100 folders, would take 500 MB."""
    headers = [b"".join(b"11 %06x=\n" % number for number in range(at, at + 3000)) for at in range(0, 300_000, 3000)]
    content = b"".join(block("", words, {"type": tarfile.XGLTYPE}) + block("a/", b"") for words in headers) + tar()
    tracemalloc.start()
    try:
        assert unpacked(tmp_path, content) == {}
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize("size", [0, 10])
def test_a_bomb_writes_no_more_than_it_declares(tmp_path, size):
    """Ten million bytes, said to be ten, with the checksum that ten have."""
    bomb = packed(("a", bytes(10**7)), packing=zipfile.ZIP_DEFLATED)
    length = struct.unpack_from("<L", bomb, bomb.rindex(ENTRY) + 20)[0]
    bomb = patched(declared(bomb, length, size), ENTRY, 16, struct.pack("<L", zlib.crc32(bytes(size))))
    _, found = tried(tmp_path, bomb)
    assert sum(map(len, found.values())) <= size


def test_a_full_disk_is_not_the_fault_of_the_archive(tmp_path, monkeypatch):
    def full(source, target, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(unpack, "copy", full)
    with pytest.raises(OSError, match="No space left"):
        tried(tmp_path, tar(("a", b"x")))


# What is damaged

TEN = packed(("a", b"0123456789"))
DEFLATED = packed(("a", b"0123456789" * 30), packing=zipfile.ZIP_DEFLATED)
DEFLATED_SIZE = struct.unpack_from("<L", DEFLATED, DEFLATED.rindex(ENTRY) + 20)[0]
SHORT = "'a' isn't of the {} bytes that it declares"
LIARS = {
    "stored, longer than declared": (declared(TEN, 5, 5), UNREADABLE + "Bad CRC-32"),
    "stored, longer than it is to be": (declared(TEN, 10, 5), UNREADABLE + "Bad CRC-32"),
    "stored, shorter than declared": (declared(TEN, 20, 20), UNREADABLE + "Bad CRC-32"),
    "stored, shorter than it is to be": (declared(TEN, 10, 20), SHORT.format(20)),
    "stored, beyond the archive": (declared(TEN, 10**6, 10**6), UNREADABLE),
    "deflated, longer than declared": (declared(DEFLATED, DEFLATED_SIZE, 299), UNREADABLE + "Bad CRC-32"),
    "deflated, shorter than declared": (declared(DEFLATED, DEFLATED_SIZE, 301), SHORT.format(301)),
    "deflated, cut": (declared(DEFLATED, DEFLATED_SIZE - 5, 300), UNREADABLE),
    "said to be empty": (declared(TEN, 0, 0), UNREADABLE + "Bad CRC-32"),
    "another name in front": (patched(TEN, HEADER, 30, b"b"), UNREADABLE + "File name in directory 'a'"),
    "another checksum": (patched(TEN, ENTRY, 16, b"abcd"), UNREADABLE + "Bad CRC-32"),
    "flipped byte, stored": (TEN.replace(b"0123456789", b"0123856789"), UNREADABLE + "Bad CRC-32"),
    "flipped byte, deflated": (patched(DEFLATED, HEADER, 35, b"\xff"), UNREADABLE),
    "member before the archive": (patched(TEN, END, 16, struct.pack("<L", 2**31)), UNREADABLE),
    "member behind the archive": (patched(TEN, ENTRY, 42, struct.pack("<L", 2**31)), UNREADABLE),
    "directory before the archive": (patched(TEN, END, 12, struct.pack("<L", 2**31)), UNREADABLE),
    "name that is no UTF-8": (patched(patched(TEN, ENTRY, 46, b"\xff"), ENTRY, 9, b"\x08"), UNREADABLE),
}


@pytest.mark.parametrize(("content", "said"), LIARS.values(), ids=LIARS)
def test_a_zip_that_is_not_as_it_says_is_refused(tmp_path, content, said):
    assert said in refused(tmp_path, content)


TWO = {kind: pack(kind, ("a", b"0123456789"), ("b", b"0123456789")) for kind in KINDS}
BROKEN = {
    **{f"tar cut to {length} bytes": TWO["tar"][:length]
       for length in (1, 100, 511, 512, 514, 1023, 1024, 1025, 1300, 1536, 1540, 2047, 2048, 2300)},
    **{f"zip cut to {length} bytes": TWO["zip"][:length]
       for length in (1, 2, 3, 4, 25, 30, 35, 41, 60, 82, 100, 150, len(TWO["zip"]) - 22, len(TWO["zip"]) - 1)},
    "tar with a damaged header": patched(TWO["tar"], b"b\0\0\0", 0, b"c"),
    "tar with a damaged first header": patched(TWO["tar"], b"a\0\0\0", 0, b"c"),
    "tar whose name is no UTF-8": tar(("\udce9", b"x")),
    "tar whose last header is for nothing": tar(("a", b"name\0", {"type": tarfile.GNUTYPE_LONGNAME})),
    "tar with a long name of a negative size": tar(("a", b"", {"type": tarfile.GNUTYPE_LONGNAME, "size": -1024})),
    "tar of 2,000 headers for one member": tar(*[("a", b"b\0", {"type": tarfile.GNUTYPE_LONGNAME})] * 2000, ("a", b"")),
    "tar with an odd map": tar(("a", b"", {"pax_headers": {"GNU.sparse.map": "1,x"}}), format=tarfile.PAX_FORMAT),
    "tar that ends in a map of a sparse file": summed(
        block("a", b"", {"type": tarfile.GNUTYPE_SPARSE})[:482] + b"\1" + bytes(29)),
    "HTML page": b"<!DOCTYPE html><title>Sign in</title>",
    "long HTML page": b"<!DOCTYPE html><title>Sign in</title>" + b"<p>Accept our cookies</p>" * 999,
    "nothing": b"",
    "text that begins as a zip does": b"PK\3\4" + b"no zip at all" * 99,
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_what_is_no_whole_archive_is_refused(tmp_path, content):
    assert UNREADABLE in refused(tmp_path, content)


def test_headers_for_one_member_end_before_any_limit_of_recursion(tmp_path):
    """Which libraries raise, as torch does while it exports."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        assert UNREADABLE in refused(tmp_path, BROKEN["tar of 2,000 headers for one member"])
    finally:
        sys.setrecursionlimit(limit)


# Whatever it holds


def plain(names: dict[str, bytes]) -> bool:
    """Whether no file is the folder of another."""
    return not any(str(parent) in names for name in names for parent in PurePosixPath(name).parents)


PARTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="/\\:\0"), min_size=1, max_size=60).filter(
    lambda part: part not in (".", "..") and not part.startswith("._"))
CONTENTS = st.dictionaries(st.lists(PARTS, min_size=1, max_size=3).map("/".join), st.binary(max_size=2000), max_size=6)


@given(contents=CONTENTS.filter(plain), layout=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_any_plain_files_survive_a_tar(tmp_path_factory, contents, layout):
    assert unpacked(tmp_path_factory.mktemp("tar"), tar(*contents.items(), format=layout)) == contents


@given(contents=CONTENTS.filter(plain), packing=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
def test_any_plain_files_survive_a_zip(tmp_path_factory, contents, packing):
    assert unpacked(tmp_path_factory.mktemp("zip"), packed(*contents.items(), packing=packing)) == contents


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=300)
@given(names=st.lists(st.text("./\\a:", max_size=8), min_size=1, max_size=5))
def test_odd_names_stay_inside_or_are_refused(tmp_path_factory, kind, names):
    refusal, found = tried(tmp_path_factory.mktemp(kind), pack(kind, *((name, b"x") for name in names)))
    hostile = [name for name in names if name.startswith("/") or ".." in name.split("/") or "\\" in name]
    assert refusal or (not hostile and set(found) <= {str(PurePosixPath(name)) for name in names})


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=300)
@given(place=st.integers(0, 10**6), bits=st.integers(1, 255))
def test_no_flipped_byte_does_more_than_be_refused(tmp_path_factory, kind, place, bits):
    """Or it changes a name or, in a tar, the content, which has no checksum there."""
    content = bytearray(TWO[kind])
    content[place % len(content)] ^= bits
    tried(tmp_path_factory.mktemp(kind), bytes(content))


@settings(max_examples=300)
@given(place=st.integers(0, 511).filter(lambda place: not 148 <= place < 156), new=st.binary(min_size=1, max_size=12))
def test_no_header_with_a_right_checksum_does_more_than_be_refused(tmp_path_factory, place, new):
    header = bytearray(block("a", b""))
    header[place:place + len(new)] = new
    tried(tmp_path_factory.mktemp("tar"), summed(bytes(header[:512])) + TWO["tar"])


# On Python 3.7

EVERY = {**{name: content for name, (content, _) in {**TAKEN, **OUTSIDE, **TOO_LONG, **NO_FILES, **TWICE, **UNFIT,
                                                     **LIARS}.items()}, **BROKEN, **HUGE}


def outcome(archive: Path, folder: Path):
    """Why an archive is refused, without what the standard library says of it, or its files and their hashes."""
    try:
        unpack.unpack(archive, folder)
    except Refusal as refusal:
        return str(refusal).split("(")[0]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> Path:
    """A folder of every archive of these tables, by number."""
    folder = tmp_path_factory.mktemp("archives")
    for number, content in enumerate(EVERY.values()):
        (folder / f"{number}.archive").write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def on_python_3_7(archives) -> dict:
    """What becomes of each of them there."""
    code = ("import hashlib, json, sys\nfrom pathlib import Path\nfrom scripts import unpack\n"
            f"from scripts.job import Refusal\n{inspect.getsource(outcome)}\n"
            "assert sys.version_info[:2] == (3, 7)\n"
            "print(json.dumps({path.stem: outcome(path, path.with_suffix('.there'))"
            " for path in Path(sys.argv[1]).glob('*.archive')}))")
    done = run("scripts/in", "legacy", "python", "-c", code, archives)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", EVERY)
def test_the_same_becomes_of_an_archive_on_python_3_7(archives, on_python_3_7, name):
    number = list(EVERY).index(name)
    assert on_python_3_7[str(number)] == outcome(archives / f"{number}.archive", archives / f"{number}.here")
