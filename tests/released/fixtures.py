"""The authors' files in their hosts' layouts and under their names, with what the tiny build made up inside.

`write` fills a folder as the hosts have theirs, and `point` turns a tree's record to a host of that folder.
"""

import hashlib
import json
import math
import re
import shutil
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from scripts import sources

ARCHIVES = {"coconet": "models/coconet/checkpoint.zip",
            "groovae": "magentadata/models/music_vae/checkpoints/groovae_2bar_tap_fixed_velocity.tar",
            "vampnet": "records/8136629/files/models.zip"}
FOLDERS = {"mt3": "mt3/checkpoints/mt3", "ismir2021": "mt3/checkpoints/ismir2021",
           "coconetjs": "magentadata/js/checkpoints/coconet/bach"}
BROWSER = FOLDERS["coconetjs"]
FOREIGN = b"a pickle that nobody opens"


def write(build: Path, folder: Path, models: list[str]) -> Path:
    """build: a folder of finished builds, such as build/tiny."""
    for model in models:
        made = build / model / "fetch"
        files = [path for path in sorted(made.rglob("*"))
                 if path.is_file() and path.name not in ("manifest.json", "timing.json")]
        target = folder / {**ARCHIVES, **FOLDERS}[model]
        target.parent.mkdir(parents=True, exist_ok=True)
        if model in FOLDERS:
            for path in files:
                (target / path.relative_to(made)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target / path.relative_to(made))
        elif target.suffix == ".tar":
            with tarfile.open(target, "w") as tar:
                for path in files:
                    tar.add(path, f"groovae_2bar_tap_fixed_velocity/{path.name}")
        else:
            inside = {"coconet": "coconet-64layers-128filters", "vampnet": "models/vampnet"}[model]
            with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
                for path in files:
                    packed.write(path, f"{inside}/{path.name}")
                if model == "vampnet":
                    packed.writestr("models/wavebeat.pth", FOREIGN)
    return folder


def write_browser(spec: Path, folder: Path) -> Path:
    """Coconet's edition for browsers: the weights that js-spec.json names, zeros, in two shards."""
    weights = [{"name": one["name"], "shape": one["shape"], "dtype": "float32"}
               for one in json.loads(spec.read_text())["weights"]]
    size = sum(4 * math.prod(weight["shape"]) for weight in weights)
    target = folder / BROWSER
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    shards = {"group1-shard1of2": bytes(size // 2), "group1-shard2of2": bytes(size - size // 2)}
    (target / "weights_manifest.json").write_text(json.dumps([{"paths": list(shards), "weights": weights}]))
    for name, data in shards.items():
        (target / name).write_bytes(data)
    return target


def point(tree: Path, url: str, folder: Path) -> None:
    """Turn a tree's record to another host, and what it knows of files to what the fixtures there have.

    Grades and origins stay; what the fixtures lack is left out.
    """
    record = tree / "checksums/sources.toml"
    text = re.sub(r'^(url|listing) = "https?://[^/]+', rf'\1 = "{url}', record.read_text(), flags=re.MULTILINE)
    told, lines, table = tomllib.loads(text), [], ""
    for line in text.splitlines():
        table = line.strip("[]") if line.startswith("[") else table
        if entry := re.match(r'"(.+?)" = \{', line):
            content = content_of(folder, told[table.split(".")[0]]["url"], table.split(".")[1], entry[1])
            if content is None:
                continue
            line = re.sub(r"bytes = \d+", f"bytes = {len(content)}", line)
            for kind in sources.DIGITS:
                line = re.sub(rf'{kind} = "\w+"', f'{kind} = "{digest(kind, content)}"', line)
        lines.append(line)
    text = "\n".join(lines) + "\n"
    objects = sorted(path for path in (folder / FOLDERS["mt3"]).rglob("*") if path.is_file())
    if objects:
        size = sum(path.stat().st_size for path in objects)
        text = text.replace("bytes = 171589452\n", f"bytes = {size}\n")
        (tree / "checksums/sources/mt3.sha256").write_text("".join(
            f"{digest('sha256', path.read_bytes())}  {path.relative_to(folder / FOLDERS['mt3']).as_posix()}\n"
            for path in objects))
    tomllib.loads(text)
    record.write_text(text)


def content_of(folder: Path, url: str, kind: str, name: str) -> bytes | None:
    """What the fixtures have as a source's file, or as its archive's member; None where they have neither."""
    place = folder / urlsplit(url).path.lstrip("/")
    place = place / name if place.is_dir() else place
    if kind == "files" or not place.is_file():
        return place.read_bytes() if place.is_file() else None
    if place.suffix == ".tar":
        with tarfile.open(place) as packed:
            return next((packed.extractfile(one).read() for one in packed if Path(one.name).name == name), None)
    with zipfile.ZipFile(place) as packed:
        return next((packed.read(one) for one in packed.namelist() if Path(one).name == name), None)


def digest(kind: str, content: bytes) -> str:
    if kind == "git_blob":
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return hashlib.new(kind, content).hexdigest()


def forget(tree: Path, *names: str) -> None:
    """Leave nothing in a tree's record that is known of files of the named sources."""
    record = tree / "checksums/sources.toml"
    text = re.sub(rf"^\[({'|'.join(names)})\.(files|members)\]\n(\".*\n|\n)*", "", record.read_text(),
                  flags=re.MULTILINE)
    record.write_text(text)


def repack(archive: Path, name: str, change: Callable[[bytes], bytes]) -> bytes:
    """Write a zip anew with a member changed; returns what that is now."""
    with zipfile.ZipFile(archive) as packed:
        members = {one: packed.read(one) for one in packed.namelist()}
    [own] = [one for one in members if Path(one).name == name]
    members[own] = change(members[own])
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for one, content in members.items():
            packed.writestr(one, content)
    return members[own]
