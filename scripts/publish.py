"""`make publish`: the folder dist/<tag>/ as a GitHub release, whole or not at all.

Nothing is sent before every gate is passed (scripts/gates.py). The assets go into a draft, which nobody sees; only when
GitHub has each of them, byte by byte, does the draft become a release. Every step looks first at what is there, so one
that failed is taken again (scripts/hub.py), and a publication that was killed goes on where it was. A published release
is never touched. GITHUB_REPOSITORY (owner/name) and GITHUB_TOKEN say where and as whom, GITHUB_API_URL on which GitHub.
Runs in the toolchain `release`.
"""

import hashlib
import os
import sys
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from github import GithubException, UnknownObjectException
from github.GitRelease import GitRelease
from github.GitReleaseAsset import GitReleaseAsset
from github.Repository import Repository
from tqdm import tqdm
from tqdm.utils import CallbackIOWrapper

from scripts import command, gates, manifest, transfer
from scripts.hub import PATIENCE, TROUBLES, Passing, Patience, Way, again, client, judged, persist, way_of
from scripts.job import Refusal, progress

ROOT = Path(__file__).resolve().parent.parent
AT_ONCE = 4  # files on their way
BLOCK = 1 << 20
EXTRA = "expected no such file"


class File(NamedTuple):
    """What an asset is to be."""
    path: Path
    bytes: int
    sha256: str


class Release(NamedTuple):
    """What is to be published."""
    tag: str
    commit: str
    notes: str
    files: dict[str, File]

    @property
    def final(self) -> bool:
        return "-" not in self.tag


def publish(tag: str, patience: Patience = PATIENCE) -> None:
    """Publish dist/<tag>/. Raises Refusal where it may not be, or GitHub can't be had."""
    way = way_of(os.environ, patience)
    release = admit(tag, require)
    with command.alone(ROOT / "build/publish"):
        repository = reach(way)
        again(way, lambda: require_tag(way, repository, release))
        draft = again(way, lambda: place(repository, release))
        if not draft.draft:
            require_equal(way, draft, release)
            print(f"{tag} is published already, the same files: {draft.html_url}")
            return
        fill(way, draft, release)
        shown = again(way, lambda: show(repository, draft, release))
        print(f"published {tag}, {amount(release.files.values())}: {shown.html_url}")


def rehearse(tag: str, patience: Patience = PATIENCE) -> None:
    """Tell what would be sent of dist/<tag>/, and send nothing.

    Whether it is published already is asked where the environment tells the way. Raises Refusal for a folder that can't
    be published; of its weights and of the git tree a release would refuse, that is only told.
    """
    release = admit(tag, lambda flaw: progress(f"a release would refuse: {flaw}") if flaw else None)
    would = f"would publish {tag}, {amount(release.files.values())}"
    if os.environ.get("GITHUB_TOKEN") and os.environ.get("GITHUB_REPOSITORY"):
        way = way_of(os.environ, patience)
        repository = reach(way)
        for one in again(way, lambda: releases(repository, tag)):
            if not one.draft:
                require_equal(way, one, release)
                would = f"{tag} is published already, the same files: {one.html_url}"
    else:
        progress("without GITHUB_TOKEN and GITHUB_REPOSITORY nobody asks whether it is published already")
    rows = [(name, f"{file.bytes:,}", file.sha256[:12]) for name, file in release.files.items()]
    command.table([("file", "bytes", "sha256"), *rows], numbers={1})
    print(f"{would}; nothing was sent")


def admit(tag: str, judge: Callable[[str | None], object]) -> Release:
    """What dist/<tag>/ holds, once it passed the gates that need no network. Raises Refusal at the first that it fails.

    judge: told of each flaw of the weights and of the git tree, or of none.
    """
    folder = ROOT / "dist" / tag
    require(gates.version(tag))
    require(gates.contents(folder))
    told = gates.read(folder)
    require(gates.licences(folder, told))
    judge(gates.weights(told))
    judge(gates.clean(ROOT))
    judge(gates.tagged(ROOT, tag))
    judge(gates.made_here(ROOT, told))
    paths = sorted(folder.iterdir())
    sizes = [path.stat().st_size for path in paths]
    progress(f"hashing {len(paths)} files of {sum(sizes):,} bytes")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        files = {path.name: File(path, size, sha256)
                 for path, size, sha256 in zip(paths, sizes, pool.map(manifest.sha256, paths))}
    require(gates.hashes(folder, gates.recorded(folder), {name: file.sha256 for name, file in files.items()}))
    return Release(tag, told["commit"], (folder / gates.NOTES).read_text(encoding="utf-8"), files)


def require(flaw: str | None) -> None:
    if flaw:
        raise Refusal(flaw)


def amount(files: Collection[File]) -> str:
    return f"{len(files)} file{'s' * (len(files) > 1)} of {sum(file.bytes for file in files):,} bytes"


# The release


def reach(way: Way) -> Repository:
    """The repository. Raises Refusal where it isn't there, or is called otherwise by now."""
    progress(f"asking {way.api} for {way.repository}")
    try:
        repository = again(way, lambda: client(way).get_repo(way.repository))
    except RuntimeError as error:  # of PyGithub, for a redirect to another host
        raise Refusal(f"{way.api}: expected GitHub's API, found a redirect: mend GITHUB_API_URL") from error
    name = repository.raw_data.get("full_name", "")
    if name.lower() != way.repository.lower():
        raise Refusal(f"{way.api}: expected the repository {way.repository}, found {name or 'no API of GitHub'}: mend "
                      "GITHUB_REPOSITORY or GITHUB_API_URL")
    return repository


def require_tag(way: Way, repository: Repository, release: Release) -> None:
    """Raises Refusal where GitHub's tag isn't this one, or it has none: it would make one of whatever it likes."""
    try:
        found = repository.get_commit(f"tags/{release.tag}").sha
    except GithubException as error:
        if error.status not in (404, 409, 422):
            raise
        found = None
    if found != release.commit:
        raise Refusal(f"{way.repository}: expected the tag {release.tag} at {release.commit[:12]}, found "
                      f"{found[:12] if found else 'none'}: push it with git push origin {release.tag}")


def releases(repository: Repository, tag: str) -> list[GitRelease]:
    """The releases of a tag and its drafts, the oldest first; drafts are found in no other way."""
    return sorted((one for one in repository.get_releases() if one.tag_name == tag), key=lambda one: one.id)


def place(repository: Repository, release: Release) -> GitRelease:
    """The published release of the tag where there is one, or else its only draft."""
    drafts = releases(repository, release.tag)
    if published := [one for one in drafts if not one.draft]:
        return published[0]
    for extra in drafts[1:]:
        progress(f"deleting a second draft of {release.tag}")
        gone(extra.delete_release)
    if drafts:
        progress(f"going on with the draft of {release.tag}")
        return drafts[0]
    progress(f"making a draft of {release.tag}")
    return repository.create_git_release(
        release.tag, release.tag, release.notes, draft=True, prerelease=not release.final,
        target_commitish=release.commit, make_latest="false")


def show(repository: Repository, draft: GitRelease, release: Release) -> GitRelease:
    """Make a draft a release, the latest one unless it is provisional or a later version is there."""
    try:
        now = repository.get_release(draft.id)
    except UnknownObjectException:
        raise Refusal(f"{release.tag}: expected its draft, found that somebody deleted it: run make publish "
                      "again") from None
    if not now.draft:  # made by an attempt whose answer was lost
        return now
    finals = [one.tag_name for one in repository.get_releases() if not (one.draft or one.prerelease)]
    latest = release.final and all(rank(tag) < rank(release.tag) for tag in finals if gates.VERSION.fullmatch(tag))
    return now.update_release(
        release.tag, release.notes, draft=False, prerelease=not release.final, tag_name=release.tag,
        target_commitish=release.commit, make_latest="true" if latest else "false")


def rank(tag: str) -> tuple[int, ...]:
    """What orders final versions."""
    return tuple(map(int, gates.VERSION.fullmatch(tag).groups()[:3]))


def gone(delete: Callable[[], object]) -> None:
    """Delete what may be gone already."""
    try:
        delete()
    except GithubException as error:
        if error.status != 404:
            raise


# Its assets


def require_equal(way: Way, published: GitRelease, release: Release) -> None:
    """Raises Refusal where a published release doesn't have the folder's files, byte by byte."""
    progress(f"comparing with {published.html_url}")
    wanting, strays = again(way, lambda: differences(way, published, release.files, {}))
    if wanting or strays:
        raise Refusal(f"{release.tag} is published already, with other files ({first(wanting, strays)}): a published "
                      f"release isn't edited, choose another version than that of {published.html_url}")


def fill(way: Way, draft: GitRelease, release: Release) -> None:
    """Make a draft's assets the release's files: look, mend, look again, until there is nothing to mend.

    Raises Refusal where that gets no further, `attempts` times in a row.
    """
    known, least, failures, trouble = {}, None, 0, None
    while True:
        progress(f"comparing the draft with {gates.shown(ROOT / 'dist' / release.tag)}")
        wanting, strays = again(way, lambda: differences(way, draft, release.files, known))
        if not wanting and not strays:
            return
        if least is None or len(wanting) + len(strays) < least:
            least, failures = len(wanting) + len(strays), 0
        elif not trouble:  # and yet it isn't right
            failures += 1
            persist(way, failures, Passing(first(wanting, strays)))
        for stray in strays:
            progress(f"deleting {stray.name}: {wanting.get(stray.name, EXTRA)}")
            again(way, lambda stray=stray: gone(stray.delete_asset))
        missing = [release.files[name] for name in wanting]
        trouble = send(way, draft.upload_url.partition("{")[0], missing) if missing else None
        if trouble:
            failures += 1
            persist(way, failures, trouble)


def differences(way: Way, there: GitRelease, files: dict[str, File],
                known: dict[int, str]) -> tuple[dict[str, str], list[GitReleaseAsset]]:
    """What is wrong with each file that isn't there as it should be, by name, and the assets that have to go.

    known: hashes of assets that were read back, which is done once.
    """
    wanting, strays = dict.fromkeys(files, "expected it there, found none"), []
    for asset in there.get_assets():
        flaw = flaw_of(way, asset, files.get(asset.name), known)
        if flaw:
            strays.append(asset)
        if asset.name in files:
            wanting[asset.name] = flaw
    return {name: flaw for name, flaw in wanting.items() if flaw}, strays


def first(wanting: dict[str, str], strays: list[GitReleaseAsset]) -> str:
    """One of the differences, in words."""
    return ": ".join(next(iter([*wanting.items(), *((stray.name, EXTRA) for stray in strays)])))


def flaw_of(way: Way, asset: GitReleaseAsset, file: File | None, known: dict[int, str]) -> str | None:
    """How an asset differs from its file; nothing where it doesn't."""
    if file is None:
        return EXTRA
    if asset.state != "uploaded":
        return f"expected it whole, found its state {asset.state}"
    if asset.size != file.bytes:
        return f"expected {file.bytes:,} bytes, found {asset.size:,}"
    kind, _, told = (again(way, lambda: asset.digest) or "").partition(":")
    found = told if kind == "sha256" else known.get(asset.id)
    if not found:
        progress(f"reading {asset.name} back, as GitHub tells no hash of it")
        found = known[asset.id] = again(way, lambda: sha256(way, asset))
    return None if found == file.sha256 else f"expected SHA-256 {file.sha256}, found {found}"


def sha256(way: Way, asset: GitReleaseAsset) -> str:
    """The hash of an asset's bytes; PyGithub would hold all of them in memory."""
    running = hashlib.sha256()
    headers = {"Accept": "application/octet-stream", "Authorization": f"Bearer {way.token}"}
    with transfer.session() as web, web.get(asset.url, headers=headers, stream=True,
                                            timeout=(way.patience.answering, way.patience.receiving)) as answer:
        answer.raise_for_status()
        for block in answer.iter_content(BLOCK):
            running.update(block)
    return running.hexdigest()


def send(way: Way, url: str, files: list[File]) -> Passing | None:
    """Send files, AT_ONCE at a time, until one fails or all are there. Returns its trouble, where that may pass."""
    progress(f"sending {amount(files)}")
    stopping = threading.Event()
    with tqdm(total=sum(file.bytes for file in files), unit="B", unit_scale=True, disable=None) as bar, \
            ThreadPoolExecutor(AT_ONCE) as pool:
        def tick(count: int) -> None:
            if stopping.is_set():
                raise Refusal("another file can't be sent")
            bar.update(count)

        try:
            for future in as_completed([pool.submit(send_one, way, url, file, tick) for file in files]):
                tqdm.write(f"sent {future.result()}")
        except Passing as trouble:
            pool.shutdown(cancel_futures=True)  # what is on its way arrives
            return trouble
        except BaseException:
            stopping.set()
            pool.shutdown(cancel_futures=True)
            raise
    return None


def send_one(way: Way, url: str, file: File, tick: Callable[[int], None]) -> str:
    """Send a file, and return its name. tick: told of bytes as they go; what it raises ends that.

    The client is one of the host for uploads, as PyGithub would wait for another than its own for ever.
    """
    parts = urlsplit(url)
    host = f"{parts.scheme}://{parts.netloc}"
    with client(way, host, way.patience.receiving) as github, file.path.open("rb") as data:
        try:
            GitRelease(github.requester, {}, {"upload_url": url}).upload_asset_from_memory(
                CallbackIOWrapper(tick, data, "read"), file.bytes, file.path.name)
        except TROUBLES as error:
            raise judged(way, error) from error
    return file.path.name


def main() -> int:
    parser = command.Parser(prog="scripts.publish", description=__doc__)
    parser.add_argument("--tag", required=True)
    parser.add_argument("--dry-run", action="store_true")
    asked = parser.parse_args()
    (rehearse if asked.dry_run else publish)(asked.tag)
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
