"""Bases for the images where no registry can be reached: Debian by mmdebstrap, with an interpreter.

Python 3.11 is Debian's own; another version is the interpreter that this machine has, put
under /usr/local as in the official images. A base is a docker-archive, which every engine
loads under the same digest, and holds no time, host name or log.
"""

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from scripts.job import Refusal

ROOT = Path(__file__).resolve().parent.parent
EPOCH, CREATED = 1577836800, "2020-01-01T00:00:00Z"  # scripts/in's SOURCE_DATE_EPOCH
SUITE = "bookworm"
DEBIANS_PYTHON = ("python3-venv",)
# What an interpreter that was built on Debian is linked with.
LIBRARIES = ("libbz2-1.0", "libexpat1", "libffi8", "liblzma5", "libncursesw6", "libnsl2", "libreadline8",
             "libsqlite3-0", "libssl3", "libtirpc3", "libuuid1", "zlib1g")
UNUSED = {"__pycache__", "idlelib", "lib2to3", "site-packages", "test", "tkinter", "turtledemo"}
CLEANED = ("/etc/hostname", "/etc/resolv.conf", "/etc/machine-id", "/var/cache/ldconfig/aux-cache", "/var/log/*.log",
           "/var/log/apt", "/var/cache/debconf/*-old")
DOCUMENTS = ("path-exclude=/usr/share/doc/*", "path-include=/usr/share/doc/*/copyright",
             "path-exclude=/usr/share/man/*", "path-exclude=/usr/share/info/*", "path-exclude=/usr/share/locale/*")


def base(version: str, folder: Path) -> tuple[Path, str]:
    """The archive of the base with that Python, made where it isn't there yet, and its image's digest.

    Raises Refusal where mmdebstrap is missing or fails, or the interpreter can't be moved.
    """
    archive = folder / f"base-{version}.tar"
    if not archive.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        print(f"making the base of Python {version} with mmdebstrap (half a minute)", flush=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            layer = Path(work) / "layer.tar"
            debian(version, layer, Path(work))
            partial = Path(work) / "archive.tar"
            write_archive(layer, f"{name(version)}:latest", partial)
            partial.replace(archive)
    return archive, digest(archive)


def name(version: str) -> str:
    return f"localhost/bellfoundry-base-{version}"


def debian(version: str, layer: Path, work: Path) -> None:
    """A minimal Debian with the interpreter, as one tar."""
    if not shutil.which("mmdebstrap"):
        raise Refusal("BASES=local needs mmdebstrap, which is not installed: install the package mmdebstrap, "
                      "or build on the official bases with BASES=official")
    hooks = ["chroot \"$1\" ldconfig", *(f'rm -rf "$1"{path}' for path in CLEANED)]
    if version == "3.11":
        packages = (*DEBIANS_PYTHON, "ca-certificates")
    else:
        packages = (*LIBRARIES, "ca-certificates")
        write_interpreter(version, work / "interpreter.tar")
        hooks.insert(0, f"tar-in {work / 'interpreter.tar'} /usr/local")
    done = subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}",
         *(f"--dpkgopt={option}" for option in DOCUMENTS), *(f"--customize-hook={hook}" for hook in hooks),
         SUITE, layer],
        env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
             "SOURCE_DATE_EPOCH": str(EPOCH)}, text=True, capture_output=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise Refusal(f"mmdebstrap could not make the base of Python {version} ({last}): "
                      "it needs Debian's mirror and the right to make a chroot")


def write_interpreter(version: str, tar: Path) -> None:
    """This machine's interpreter as a tar for /usr/local: program, library and standard library, no packages."""
    found = subprocess.run([ROOT / "scripts/python", version], text=True, capture_output=True, check=False)
    if found.returncode:
        raise Refusal(found.stderr.strip())
    prefix = Path(subprocess.run([found.stdout.strip(), "-c", "import sys; print(sys.base_prefix)"],
                                 text=True, capture_output=True, check=True).stdout.strip())
    if prefix == Path("/usr"):
        raise Refusal(f"Python {version} is this system's own, in /usr, from where it can't be moved into a base: "
                      f"install one in a folder of its own, for instance with 'pyenv install {version}'")

    def normal(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if UNUSED & set(Path(entry.name).parts) or Path(entry.name).name.startswith("config-"):
            return None
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        entry.mtime = EPOCH
        return entry

    with tarfile.open(tar, "w") as into:
        into.add(prefix / "bin" / f"python{version}", f"bin/python{version}", filter=normal)
        link = tarfile.TarInfo("bin/python3")
        link.type, link.linkname, link.mtime = tarfile.SYMTYPE, f"python{version}", EPOCH
        into.addfile(link)
        for library in sorted((prefix / "lib").glob(f"libpython{version}*")):
            into.add(library, f"lib/{library.name}", filter=normal)
        into.add(prefix / "lib" / f"python{version}", f"lib/python{version}", filter=normal)


def write_archive(layer: Path, tag: str, archive: Path) -> None:
    """An image of one layer in the format of `docker save`."""
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "created": CREATED,
        "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["python3"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer)}"]},
        "history": [{"created": CREATED, "created_by": f"mmdebstrap {SUITE}"}],
    }).encode()
    identity = hashlib.sha256(config).hexdigest()
    listed = json.dumps([{"Config": f"{identity}.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(archive, "w") as into:
        for member, data in (("manifest.json", listed), (f"{identity}.json", config)):
            entry = tarfile.TarInfo(member)
            entry.size, entry.mtime = len(data), EPOCH
            into.addfile(entry, io.BytesIO(data))
        entry = tarfile.TarInfo("layer.tar")
        entry.size, entry.mtime = layer.stat().st_size, EPOCH
        with layer.open("rb") as data:
            into.addfile(entry, data)


def digest(archive: Path) -> str:
    """The image's digest, that of its config."""
    with tarfile.open(archive) as opened:
        listed = json.load(opened.extractfile("manifest.json"))
    return "sha256:" + listed[0]["Config"].removesuffix(".json")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
