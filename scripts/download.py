"""Puts a source of checksums/sources.toml into the cache, proven, its licence beside it.

`make fetch WEIGHTS=released` runs it for each model that is to be fetched, before the stage, which has no
network. A file that is there and proven isn't asked for again. With SOURCES=folder files are read where the user has
them, and the network isn't touched. MIRROR=address is asked before the authors' hosts, for NAME/FILE, and trusted as
little.
"""

import errno
import shutil
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import requests
import tomlkit
from tqdm import tqdm

from scripts import command, hosts, manifest, proof, recipe, source, sources
from scripts.hosts import File
from scripts.job import REFUSED, Refusal, progress
from scripts.transfer import PATIENCE, Patience, discard, held, session, transfer
from scripts.unpack import unpack

ROOT = Path(__file__).resolve().parent.parent
AT_ONCE = 8  # files of a source
MOST_LISTING = 1 << 24  # bytes of a host's listing, or of a manifest of shards


class Way(NamedTuple):
    """How a source comes into the cache."""
    name: str
    told: sources.Told
    folder: Path  # of the source, in the cache
    mirror: str | None
    patience: Patience
    web: requests.Session


def download(name: str, given: Path | None = None, mirror: str | None = None, trust: bool = False,
             patience: Patience = PATIENCE) -> None:
    """Have a source in the cache, or in a folder that the user gives, every file proven.

    Raises Refusal where it can't be had whole, isn't what is known of it, or where nothing is known and isn't trusted.
    """
    told = sources.get(ROOT, name)
    if not (trust or sources.known(told)):
        raise Refusal(f"expected hashes in {sources.RECORD} that tell the files of {name} from any others, found none: "
                      f"add TRUST=first-use, which takes what {told['url']} gives and records it, and review "
                      "the record")
    if given:
        place = sources.find(name, told, given)
        if place is None:
            raise Refusal(f"SOURCES={given}: expected {name}/{sources.file_name(told)} in it, found none: put it "
                          f"there, or leave out SOURCES, and it is fetched from {told['url']}")
        progress(notice(told))
        prove(name, told, place)
        remember(name, told, place, f"first use of {place.name}, which the user had")
        return
    folder = sources.cache() / name
    place = folder / sources.file_name(told) if told["layout"] == "archive" else folder
    with command.alone(folder):
        if not cached(name, told, place):
            if not (folder / hosts.OWN).is_file():
                progress(notice(told))
            manifest.write_atomically(folder / hosts.OWN, notice(told) + "\n")
            bring(Way(name, told, folder, mirror, patience, session()))
            try:
                prove(name, told, place)
            except Refusal:
                forget(place)
                raise
        remember(name, told, place, f"first use of {mirror or told['url']}")


def notice(told: sources.Told) -> str:
    """What whoever uses a source must know of it."""
    return (f"{told['title']}, by {told['attribution']}, from {told['url']}. "
            f"Licence: {told['licence']}, {told['licence_text']}")


def cached(name: str, told: sources.Told, place: Path) -> bool:
    """Whether a known source is in the cache as it is known; says what is damaged there."""
    if not sources.known(told) or not place.exists() or any(
            not (folder_of(told, place) / file).is_file() for file in told.get("files", {})):
        return False
    try:
        prove(name, told, place)
        return True
    except Refusal as refusal:
        progress(f"what is in the cache is damaged ({refusal}): fetching it again")
        if "members" in told:
            forget(place)
        return False


def folder_of(told: sources.Told, place: Path) -> Path:
    return place.parent if told["layout"] == "archive" else place


def forget(place: Path) -> None:
    """Remove an archive that is wrong inside. Of many files each was proven on its own."""
    if place.is_file():
        place.unlink()


# How it comes


def bring(way: Way) -> None:
    """Bring every file of a source that isn't in the cache already."""
    def read(name: str, url: str) -> bytes:
        if name:
            one(way, File(name, url, {}), lambda count: None)
            return small(way.folder / name, url)
        with tempfile.TemporaryDirectory(dir=way.folder) as folder:
            return small(transfer(way.web, url, Path(folder) / "listing", None, way.patience).partial, url)

    stopping = threading.Event()
    try:
        files = hosts.files(way.told, read)
        known = way.told.get("files", {})
        total = sum(known.get(file.name, file.published).get("bytes", 0) for file in files)
        came = sum(held(way.folder / file.name) for file in files)
        if total - came > (free := shutil.disk_usage(way.folder).free):
            raise Refusal(f"{way.folder}: expected room for {total:,} bytes, found {free:,}: free some space, or set "
                          "XDG_CACHE_HOME to a folder on another disk")
        progress(f"fetching {len(files)} file{'s' * (len(files) > 1)}{f' of {total:,} bytes' * (total > 0)} from "
                 f"{way.mirror or way.told['url']}")
        with tqdm(total=total or None, initial=came, unit="B", unit_scale=True, desc=way.name, disable=None) as bar, \
                ThreadPoolExecutor(AT_ONCE) as pool:
            def tick(count: int) -> None:
                if stopping.is_set():
                    raise Refusal("another file can't be had")
                bar.update(count)

            try:
                for future in [pool.submit(one, way, file, tick) for file in files]:
                    future.result()
            except BaseException:
                stopping.set()
                pool.shutdown(cancel_futures=True)
                raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        for partial in way.folder.rglob("*.partial"):
            discard(partial.with_suffix(""))
        raise Refusal(f"{way.folder}: the disk is full: free some space, or set XDG_CACHE_HOME to a folder on another "
                      "disk") from error


def small(path: Path, url: str) -> bytes:
    """The content of a listing. Raises Refusal for one that would fill the memory."""
    if (size := path.stat().st_size) > MOST_LISTING:
        raise Refusal(f"{url}: expected a listing of {MOST_LISTING:,} bytes at most, found {size:,}: give the files "
                      "with SOURCES=folder")
    return path.read_bytes()


def one(way: Way, file: File, tick: Any) -> None:
    """Bring a file that isn't there as it is known, from the mirror or else its host."""
    target, known = way.folder / file.name, way.told.get("files", {}).get(file.name, {})
    told = {**file.published, **known}
    if target.is_file() and sources.hashed(told) and not proof.flaw(target, told):
        tick(target.stat().st_size)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if way.mirror:
        url = f"{way.mirror.rstrip('/')}/{way.name}/{quote(file.name)}"
        try:
            fetch(way, file._replace(url=url), known, tick)
            return
        except Refusal as refusal:
            progress(f"{refusal}; asking the authors' host")
    fetch(way, file, known, tick)


def fetch(way: Way, file: File, known: dict[str, Any], tick: Any) -> None:
    """Transfer a file and put it in its place. One that was resumed and is wrong is transferred once more, whole."""
    target, size = way.folder / file.name, known.get("bytes", file.published.get("bytes"))
    while True:
        arrived = transfer(way.web, file.url, target, size, way.patience, tick, progress)
        flaw, owner = proof.flaw(arrived.partial, known), sources.RECORD
        if not flaw:
            flaw, owner = proof.flaw(arrived.partial, {**arrived.published, **file.published}), "its host"
        if not flaw:
            arrived.partial.replace(target)
            discard(target)
            return
        tick(-arrived.partial.stat().st_size)
        discard(target)
        if not arrived.resumed:
            raise Refusal(f"{file.url}: {flaw}{' of an HTML page' * arrived.page}: it isn't the file that {owner} "
                          "tells of; try another host with MIRROR=, or give the file with SOURCES=folder")


# What came


def prove(name: str, told: sources.Told, place: Path) -> None:
    """Hold what is there against the record, and where that doesn't know it whole, its layout against the recipe's.

    Raises Refusal naming the first file that differs, with both hashes.
    """
    for file, known in told.get("files", {}).items():
        path = folder_of(told, place) / file
        flaw = proof.flaw(path, known) if path.is_file() else "expected a file, found none"
        if flaw:
            raise Refusal(f"{path}: {flaw}: {sources.RECORD} knows it from {known['from']}; don't use this one")
    recipes = [recipe.read(ROOT, model)["sources"] for model in recipe.models(ROOT)]
    custom = next((one["custom"] for one in recipes if one.get("released", {}).get("source") == name), None)
    if told["layout"] != "archive":
        source.files(place, custom)
    elif not sources.hashed(told.get("files", {}).get(place.name, {})):
        sources.cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=sources.cache()) as folder:
            out = Path(folder) / name
            unpack(place, out)
            found = {path.name: path for path in source.inside(place, out, custom)}
            for member, known in told.get("members", {}).items():
                flaw = proof.flaw(found[member], known) if member in found else f"expected {member}, found none"
                if flaw:
                    raise Refusal(f"{place}: {member}: {flaw}: {sources.RECORD} knows it from {known['from']}; don't "
                                  "use this archive")


def remember(name: str, told: sources.Told, place: Path, origin: str) -> None:
    """Write what came of a source that wasn't known into the record, and leave the rest of that as it is."""
    if sources.known(told):
        return
    if told["layout"] == "archive":
        found = {place.name: place}
    else:
        kind = {"objects": "t5x", "tfjs": "tfjs"}[told["layout"]]
        found = source.by_name(source.files(place, {"checkpoint": kind}))
    with command.alone(sources.cache()):
        record = tomlkit.parse((ROOT / sources.RECORD).read_text(encoding="utf-8"))
        table = record[name].setdefault("files", tomlkit.table())
        for file, path in found.items():
            entry = tomlkit.inline_table()
            entry.update({"bytes": path.stat().st_size, **proof.hashes(path, ["sha256"]),
                          **told.get("files", {}).get(file, {"from": f"{origin} on {date.today()}"})})
            table[file] = entry
        manifest.write_atomically(ROOT / sources.RECORD, tomlkit.dumps(record))
    progress(f"recorded {len(found)} file{'s' * (len(found) > 1)} of {name} in {sources.RECORD}: review it before you "
             "commit it")


def main() -> int:
    parser = command.Parser(prog="scripts.download", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--sources", type=lambda path: Path(path).expanduser().resolve())
    parser.add_argument("--mirror")
    parser.add_argument("--trust", choices=("first-use",))
    asked = parser.parse_args()
    try:
        download(asked.name, asked.sources, asked.mirror, bool(asked.trust))
    except (Refusal, OSError) as error:
        print(f"error: {error}")  # for the driver; standard error has the bar
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
