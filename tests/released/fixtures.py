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
from pathlib import Path

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
    """Turn a tree's record to another host, and the hashes in it to those of the fixtures there."""
    record = tree / "checksums/sources.toml"
    text = re.sub(r'^(url|listing) = "https?://[^/]+', rf'\1 = "{url}', record.read_text(), flags=re.MULTILINE)
    tar = folder / ARCHIVES["groovae"]
    if tar.is_file():
        with tarfile.open(tar) as packed:
            members = {Path(one.name).name: packed.extractfile(one).read() for one in packed}
        entries = [f'"{name}" = {{bytes = {len(data)}, sha256 = "{hashlib.sha256(data).hexdigest()}", from = "made"}}\n'
                   for name, data in members.items()]
        text = re.sub(r"\[groovae.members\]\n(?:\".*\n)+", "[groovae.members]\n" + "".join(entries), text)
    objects = [path for path in (folder / FOLDERS["mt3"]).rglob("*") if path.is_file()]
    if objects:
        whole = (folder / FOLDERS["mt3"] / "checkpoint").read_bytes()
        text = re.sub(r"objects = 296\nbytes = \d+", f"objects = {len(objects) + 1}\n"
                      f"bytes = {sum(path.stat().st_size for path in objects)}", text)
        known = f'"checkpoint" = {{bytes = {len(whole)}, md5 = "{hashlib.md5(whole).hexdigest()}"'
        text = re.sub(r'"checkpoint" = \{bytes = \d+, md5 = "\w+"', known, text)
    tomllib.loads(text)
    record.write_text(text)
