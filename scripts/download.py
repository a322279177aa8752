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
AWAY = "try another host with MIRROR=, or give the file with SOURCES=folder"


class Way(NamedTuple):
    """How a source comes into the cache."""
    name: str
    told: sources.Told
    folder: Path  # of the source, in the cache
    mirror: str | None
    trust: bool
    patience: Patience
    web: requests.Session


def download(name: str, given: Path | None = None, mirror: str | None = None, trust: bool = False,
             patience: Patience = PATIENCE) -> None:
    """Have a source in the cache, or in a folder that the user gives, every file proven.

    Raises Refusal where it can't be had whole, isn't what is known of it, or where not all is known and isn't trusted.
    """
    told = sources.get(ROOT, name)
    if not (trust or sources.known(told)):
        some = ", ".join(file for kind in ("files", "members") for file, entry in told.get(kind, {}).items()
                         if sources.hashed(entry))
        raise Refusal(f"expected hashes in {sources.RECORD} that tell the files of {name} from any others, found "
                      f"{f'that of {some} alone' if some else 'none'}: add TRUST=first-use, which takes what "
                      f"{told['url']} gives and records it, and review the record")
    if given:
        place = sources.find(name, told, given)
        if place is None:
            raise Refusal(f"SOURCES={given}: expected {name}/{sources.file_name(told)} in it, found none: put it "
                          f"there, or leave out SOURCES, and it is fetched from {told['url']}")
        progress(notice(told))
        taken = prove(name, told, place, trust, f"get the authors' from {told['url']}, or build from this one as your "
                      f"own with CHECKPOINT={place}")
        remember(name, told, taken, f"first use of {place.name}, which the user had")
        return
    folder = sources.cache() / name
    place = folder / sources.file_name(told) if told["layout"] == "archive" else folder
    with command.alone(folder):
        if cached(name, told, place):
            return
        if not (folder / hosts.OWN).is_file():
            progress(notice(told))
        manifest.write_atomically(folder / hosts.OWN, notice(told) + "\n")
        bring(Way(name, told, folder, mirror, trust, patience, session()))
        try:
            taken = prove(name, told, place, trust, AWAY)
        except Refusal:
            forget(place)
            raise
        remember(name, told, taken, f"first use of {mirror or told['url']}")


def notice(told: sources.Told) -> str:
    """What whoever uses a source must know of it."""
    return (f"{told['title']}, by {told['attribution']}, from {told['url']}. "
            f"Licence: {told['licence']}, {told['licence_text']}")


def cached(name: str, told: sources.Told, place: Path) -> bool:
    """Whether a known source is in the cache as it is known; says what is damaged there."""
    folder = place.parent if told["layout"] == "archive" else place
    if not sources.known(told) or not place.exists() or any(
            not (folder / file).is_file() for file in told.get("files", {})):
        return False
    try:
        prove(name, told, place, False)
        return True
    except Refusal as refusal:
        progress(f"what is in the cache is damaged ({refusal}): fetching it again")
        if "members" in told:
            forget(place)
        return False


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
            return small(transfer(way.web, url, Path(folder) / "listing", patience=way.patience).partial, url)

    stopping = threading.Event()
    try:
        files = hosts.files(way.told, read)
        known = way.told.get("files", {})
        sizes = [known.get(file.name, {}).get("bytes", file.published.get("bytes")) for file in files]
        total = (sources.size(way.told) or 0) if None in sizes else sum(sizes)
        if total > (most := sources.most(way.told)):
            raise Refusal(f"{way.told['url']}: expected {most:,} bytes at most, found {total:,}: the host has other "
                          f"files there, {AWAY}")
        came = sum(held(way.folder / file.name) for file in files)
        require_room(way.folder, total - came + unpacked(way.told))
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
    reported = known.get("grade") == "reported"
    if way.mirror:
        url = f"{way.mirror.rstrip('/')}/{way.name}/{quote(file.name)}"
        try:
            fetch(way, file._replace(url=url), known, reported and covered(way.told), tick)
            return
        except Refusal as refusal:
            progress(f"{refusal}; asking the authors' host")
    fetch(way, file, known, reported and (way.trust or covered(way.told)), tick)


def fetch(way: Way, file: File, known: dict[str, Any], lenient: bool, tick: Any) -> None:
    """Transfer a file and put it in its place. One that was resumed and is wrong is transferred once more, whole.

    lenient: whether another than the one that is reported may come; `prove` tells of it.
    """
    target = way.folder / file.name
    size = (known if known.get("grade") == "pinned" else {}).get("bytes", file.published.get("bytes"))
    while True:
        arrived = transfer(way.web, file.url, target, size, sources.most(way.told), way.patience, tick, progress)
        page, wrong = " of an HTML page" * arrived.page, None
        if (flaw := proof.flaw(arrived.partial, known)) and (arrived.resumed or not lenient):
            wrong = differs(file.url, flaw + page, known, AWAY)
        elif flaw := proof.flaw(arrived.partial, {**arrived.published, **file.published}):
            wrong = Refusal(f"{file.url}: {flaw}{page}: it isn't the file that its host tells of; {AWAY}")
        if not wrong:
            arrived.partial.replace(target)
            discard(target)
            return
        tick(-arrived.partial.stat().st_size)
        discard(target)
        if not arrived.resumed:
            raise wrong


def covered(told: sources.Told) -> bool:
    """Whether what an archive holds decides, whatever is reported of itself."""
    own = told.get("files", {}).values()
    return "members" in told and sources.known(told) and not any(map(sources.pinned, own))


def unpacked(told: sources.Told) -> int:
    """How many bytes an archive's members take while they are proven, as far as that is known."""
    return sum(entry.get("bytes", 0) for entry in told["members"].values()) if covered(told) else 0


def require_room(folder: Path, size: int) -> None:
    """Raises Refusal where a disk has less than so many bytes left."""
    if size > (free := shutil.disk_usage(folder).free):
        raise Refusal(f"{folder}: expected room for {size:,} bytes, found {free:,}: free some space, or set "
                      "XDG_CACHE_HOME to a folder on another disk")


# What came


Taken = dict[str, dict[str, dict[str, Any]]]  # what the record is to say of files and members, by kind and name


def prove(name: str, told: sources.Told, place: Path, trust: bool, otherwise: str = "") -> Taken:
    """Hold what is there against the record; returns what it doesn't know, which is trusted then.

    otherwise: what a user can do about files that aren't those of the record. Raises Refusal naming the first file
    that differs, with both hashes, that is missing, or that is one too many.
    """
    taken: Taken = {"files": {}, "members": {}}
    files, members = told.get("files", {}), told.get("members", {})

    def hold(kind: str, file: str, path: Path, where: object) -> None:
        known = told.get(kind, {}).get(file, {})
        if not known and sources.known(told):
            raise Refusal(f"{where}: expected none but the {len(told[kind])} files that {sources.RECORD} knows of "
                          f"{name}, found this one: {' or '.join(filter(None, ('remove it,', otherwise)))}")
        flaw = proof.flaw(path, known)
        if flaw and not (trust and known["grade"] == "reported"):
            raise differs(where, flaw, known, otherwise)
        if flaw:
            progress(f"{where}: {flaw}: it isn't what is reported ({known['from']}), and trusted as you say")
        if flaw or not sources.hashed(known):
            taken[kind][file] = seen(path, known)

    def require(kind: str, found: dict[str, Path]) -> None:
        for file in told.get(kind, {}):
            if file not in found or not found[file].is_file():
                raise Refusal(f"{place}: expected {file}, found none: {otherwise}")

    if told["layout"] != "archive":
        require("files", {file: place / file for file in files})
        for file in files:
            hold("files", file, place / file, place / file)
        found = source.by_name(source.files(place, custom_of(name)))
        for file in sorted(found.keys() - files.keys()):
            hold("files", file, found[file], found[file])
        if told["layout"] == "objects" and taken["files"]:  # whose list is written anew
            taken["files"] = {file: seen(path, files.get(file, {})) for file, path in found.items()}
        return taken
    own = files.get(sources.file_name(told), {})
    if not covered(told):
        hold("files", sources.file_name(told), place, place)
        if not taken["files"]:
            return taken
    elif flaw := proof.flaw(place, own):
        progress(f"{place}: {flaw}: it isn't the archive that is reported ({own['from']}); what it holds decides")
    sources.cache().mkdir(parents=True, exist_ok=True)
    require_room(sources.cache(), unpacked(told))
    with tempfile.TemporaryDirectory(dir=sources.cache()) as folder:
        out = Path(folder) / name
        unpack(place, out)
        found = {path.name: path for path in source.inside(place, out, custom_of(name))}
        require("members", found)
        if members:
            for member, path in found.items():
                hold("members", member, path, f"{place}: {member}")
    return taken


def seen(path: Path, known: dict[str, Any]) -> dict[str, Any]:
    """A file's bytes and SHA-256, and those of its hashes that are known."""
    names = [name for name in proof.HASHES if name == "sha256" or name in known]
    return {"bytes": path.stat().st_size, **proof.hashes(path, names)}


def differs(where: object, flaw: str, known: dict[str, Any], otherwise: str) -> Refusal:
    """The error that a file isn't the one that the record knows."""
    grade = "has it as reported, by" if known["grade"] == "reported" else "pins it, from"
    remedy = f"; {otherwise}" * bool(otherwise)
    trust = ", or add TRUST=first-use, which takes what is there and records it"
    return Refusal(f"{where}: {flaw}: {sources.RECORD} {grade} {known['from']}"
                   f"{remedy}{trust * (known['grade'] == 'reported' and bool(otherwise))}")


def custom_of(name: str) -> dict[str, Any]:
    """How the recipe that takes a source says that its files lie."""
    recipes = (recipe.read(ROOT, model)["sources"] for model in recipe.models(ROOT))
    return next((one["custom"] for one in recipes if one.get("released", {}).get("source") == name), None)


def remember(name: str, told: sources.Told, taken: Taken, origin: str) -> None:
    """Write into the record what was trusted, pinned, and leave the rest of it as it is."""
    number = sum(map(len, taken.values()))
    if not number:
        return
    day = f"{origin} on {date.today()}"

    def before(kind: str, file: str) -> str:
        """What the record said of a file."""
        known, found = told.get(kind, {}).get(file, {}), taken[kind][file]
        other = [f"{key} {known[key]}" for key in known if key in found and known[key] != found[key]]
        how = f"in place of {', '.join(other)}," if other else "as"
        return f"{how} {known['from']}" if known else ""

    with command.alone(sources.cache()):
        record = tomlkit.parse((ROOT / sources.RECORD).read_text(encoding="utf-8"))
        own = record[name]
        if told["layout"] == "objects":
            files = dict(sorted(taken["files"].items()))
            sums = f"sources/{name}.sha256"
            (ROOT / "checksums/sources").mkdir(exist_ok=True)
            manifest.write_atomically(ROOT / "checksums" / sums,
                                      "".join(f"{entry['sha256']}  {file}\n" for file, entry in files.items()))
            for key in ("files", "sums", "bytes"):
                own.pop(key, None)
            own["bytes"] = sum(entry["bytes"] for entry in files.values())
            own["sums"] = pinned({"file": sums}, day, *(f"{file}: {said}" for file in files
                                                        if (said := before("files", file))))
        else:
            for kind, entries in taken.items():
                for file, entry in entries.items():
                    own.setdefault(kind, tomlkit.table())[file] = pinned(entry, day, before(kind, file))
        manifest.write_atomically(ROOT / sources.RECORD, tomlkit.dumps(record))
    progress(f"recorded {number} file{'s' * (number > 1)} of {name} in {sources.RECORD}: review it before you commit "
             "it")


def pinned(entry: dict[str, Any], *origin: str) -> Any:
    """An entry of the record for what was trusted."""
    table = tomlkit.inline_table()
    table.update({**entry, "grade": "pinned", "from": "; ".join(filter(None, origin))})
    return table


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
