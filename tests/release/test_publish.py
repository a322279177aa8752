"""A release is published whole or not at all: every gate with a planted defect, every failure of GitHub, every kill."""

import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import time

import pytest

from tests.conftest import ROOT, run
from tests.release import github as hosts
from tests.release.github import (
    READER,
    REPOSITORY,
    TOKEN,
    GitHub,
    cut,
    done,
    early,
    late,
    page,
    says,
    serve,
    silent,
    spoiled,
    taken,
    unheard,
)
from tests.warm import Warm

TAG = "v1.0.0"
# Patience for tests: all times in seconds.
HASTY = {"answering": 2, "receiving": 2, "attempts": 3, "pause": 0.05, "limited": 0.6, "longest": 4, "between": 0,
         "between_writes": 0}
CODE = """
import json, sys
from scripts import command, publish
from scripts.hub import Patience
told = json.loads(sys.argv[1])
sys.exit(command.run(lambda: getattr(publish, told["verb"])(told["tag"], Patience(**told["patience"])) or 0))
"""
LARGE = random.Random(5).randbytes(3_000_000)  # more than a connection takes before the other end reads
FILES = {
    "coconet-harmonizer-int8.onnx": LARGE,
    "coconet.md": b"# Coconet\nApache-2.0, by Google Magenta\n",
    "vampnet.md": b"# VampNet\nCC-BY-NC-SA-4.0, by Hugo Flores Garcia\n",
    "notes.md": "# Bellfoundry 1.0.0\nFünf Modelle.\n".encode(),
}


def git(tree, *words):
    done = run("git", "-c", "user.name=Tester", "-c", "user.email=tester@example.org", *words, cwd=tree,
               GIT_CONFIG_GLOBAL="/dev/null")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Foundry:
    """A git repository that holds what publishing needs, with a tag, and dist/<tag>/ made from its commit."""

    def __init__(self, folder, tagged, warm):
        self.tree, self.warm, self.tag = folder / "tree", warm, TAG
        shutil.copytree(tagged, self.tree)
        self.commit = self.git("rev-parse", "HEAD")
        self.github = GitHub({TAG: self.commit})
        self.pack()

    def git(self, *words):
        return git(self.tree, *words)

    def pack(self, files=FILES, **told):
        """Write dist/<tag>/ as make package does; told: what its manifest says instead."""
        self.folder = self.tree / "dist" / self.tag
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        apache, share = ({"weights_licence": licence, "attribution": "its authors"}
                         for licence in ("Apache-2.0", "CC-BY-NC-SA-4.0"))
        manifest = {"version": self.tag, "weights": "released", "commit": self.commit,
                    "models": {"coconet": apache, "vampnet": share}, **told}
        for name, data in {**files, "manifest.json": json.dumps(manifest).encode()}.items():
            (self.folder / name).write_bytes(data)
        self.sum()

    def sum(self):
        sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
                for path in sorted(self.folder.iterdir()) if path.name != "SHA256SUMS"]
        (self.folder / "SHA256SUMS").write_text("".join(sums))

    def files(self):
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}

    def environment(self, **told):
        outer = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
        return {**outer, "GITHUB_API_URL": self.github.url, "GITHUB_REPOSITORY": REPOSITORY, "GITHUB_TOKEN": TOKEN,
                **told}

    def start(self, verb="publish", patience=HASTY, **told):
        words = json.dumps({"verb": verb, "tag": self.tag, "patience": patience})
        return self.warm.start(CODE, words, folder=self.tree, environment=self.environment(**told))

    def publish(self, **told):
        """The exit status and all that was said; a token and a traceback never are."""
        process = self.start(**told)
        said = process.communicate(timeout=60)[0]
        assert "Traceback" not in said and TOKEN not in said and READER not in said, said
        return process.returncode, said

    def refused(self, **told):
        """The one sentence of an error."""
        status, said = self.publish(**told)
        assert status == 2 and [line for line in said.splitlines() if line.startswith("error: ")] == [
            said.splitlines()[-1]], said
        return said.splitlines()[-1]

    def whole(self):
        """Whether there is exactly one release of the tag, as the folder is, and no draft beside it."""
        assert not self.github.edits
        assert sum(one["tag_name"] == self.tag for one in self.github.releases.values()) == 1
        return self.github.published(self.tag) == [self.files()]


@pytest.fixture(scope="session")
def python() -> str:
    """The interpreter of the toolchain that publishes, so that a kill meets it and no shell around it."""
    return run("scripts/in", "release", "python", "-c", "import sys; print(sys.executable)").stdout.strip()


@pytest.fixture(scope="session")
def warm(python, tmp_path_factory):
    one = Warm(python, "github, requests, tqdm.utils", tmp_path_factory.mktemp("warm"))
    yield one
    one.close()


@pytest.fixture(scope="session")
def tagged(python, tmp_path_factory):
    """A git repository of a commit, with a tag."""
    tree = tmp_path_factory.mktemp("tagged") / "tree"
    unused = shutil.ignore_patterns("__pycache__", "inspection", "rewrites")
    for name in ("scripts", "images/release"):
        shutil.copytree(ROOT / name, tree / name, ignore=unused)
    shutil.copy(ROOT / ".gitignore", tree)
    for words in (["init", "--quiet", "--initial-branch", "main"], ["add", "."],
                  ["commit", "--quiet", "--message", "All"], ["tag", TAG], ["gc", "--quiet"]):
        git(tree, *words)
    assert run(python, "-m", "compileall", "-q", "scripts", cwd=tree).returncode == 0
    return tree


@pytest.fixture
def foundry(tmp_path, tagged, warm):
    made = Foundry(tmp_path, tagged, warm)
    yield made
    made.github.close()


def command(foundry, *words, **told):
    """What make runs."""
    return run("scripts/in", "release", "python", "-m", "scripts.publish", *words, cwd=foundry.tree,
               **{"GITHUB_API_URL": foundry.github.url, "GITHUB_REPOSITORY": REPOSITORY, "GITHUB_TOKEN": TOKEN, **told})


# The whole way


def test_a_release_is_published_and_then_left_alone(foundry):
    first = command(foundry, "--tag", TAG)
    assert first.returncode == 0, first.stdout + first.stderr
    assert foundry.whole()
    published, = foundry.github.releases.values()
    assert published == {"tag_name": TAG, "name": TAG, "body": FILES["notes.md"].decode(), "draft": False,
                         "prerelease": False, "target_commitish": foundry.commit, "make_latest": "true",
                         "generate_release_notes": False}
    assert f"published {TAG}, 6 files" in first.stdout and all(f"sent {name}" in first.stdout for name in FILES)
    foundry.github.asked.clear()
    again = command(foundry, "--tag", TAG)
    assert again.returncode == 0 and f"{TAG} is published already, the same files: https://" in again.stdout
    assert set(foundry.github.asked) == {"repository", "commit", "list", "assets"} and foundry.whole()
    assert TOKEN not in first.stdout + first.stderr + again.stdout + again.stderr


def test_a_dry_run_sends_nothing(foundry):
    told = command(foundry, "--tag", TAG, "--dry-run")
    assert told.returncode == 0 and "a release would refuse" not in told.stdout, told.stderr
    large = hashlib.sha256(LARGE).hexdigest()[:12]
    assert f"coconet-harmonizer-int8.onnx  3,000,000  {large}" in told.stdout
    assert "would publish v1.0.0, 6 files" in told.stdout and "nothing was sent" in told.stdout
    assert set(foundry.github.asked) == {"repository", "list"} and not foundry.github.releases


def test_a_dry_run_needs_no_network_and_remarks_on_what_only_a_release_needs(foundry):
    foundry.tag = "v2.0.0-rc.1"
    foundry.pack(weights="tiny", commit="0" * 40)
    (foundry.tree / "draft.txt").write_text("not yet")
    told = command(foundry, "--tag", foundry.tag, "--dry-run", GITHUB_TOKEN="")
    assert told.returncode == 0, told.stderr
    remarks = [line for line in told.stdout.splitlines() if line.startswith("a release would refuse: ")]
    assert [remark.split(": ")[2].split(",")[0] for remark in remarks] == [
        "expected released weights", "expected nothing that isn't committed", "expected a git tag of that name",
        "expected files made from HEAD"]
    assert "without GITHUB_TOKEN" in told.stdout and foundry.github.asked == []


def test_a_dry_run_says_that_it_is_published_already(foundry):
    assert foundry.publish()[0] == 0
    status, said = foundry.publish(verb="rehearse")
    assert status == 0 and f"{TAG} is published already, the same files" in said
    (foundry.folder / "coconet.md").write_text("# Another")
    foundry.sum()
    assert "is published already, with other files" in foundry.refused(verb="rehearse")
    assert not foundry.github.edits


def test_a_prerelease_is_one_and_never_the_latest(foundry):
    foundry.tag = "v1.1.0-rc.1"
    foundry.git("tag", foundry.tag)
    foundry.github.tags[foundry.tag] = foundry.commit
    foundry.pack()
    assert foundry.publish()[0] == 0 and foundry.whole()
    published, = foundry.github.releases.values()
    assert published["prerelease"] and published["make_latest"] == "false"


@pytest.mark.parametrize(("other", "latest"), [("v0.9.10", "true"), ("v1.0.10", "false"), ("nightly", "true")])
def test_the_latest_is_the_highest_version(foundry, other, latest):
    foundry.github.add(other, draft=False)
    assert foundry.publish()[0] == 0
    assert foundry.github.releases[max(foundry.github.releases, key=lambda one: foundry.github.releases[one][
        "tag_name"] == TAG)]["make_latest"] == latest


def test_an_annotated_tag_is_as_good(foundry):
    foundry.git("tag", "--force", "--annotate", "--message", "Signed and sealed", TAG)
    assert foundry.publish()[0] == 0 and foundry.whole()


# Gates


def flip(foundry):
    data = bytearray(LARGE)
    data[1234] ^= 1
    (foundry.folder / "coconet-harmonizer-int8.onnx").write_bytes(data)


def models(**told):
    """A manifest's models, of which Coconet is told to be otherwise."""
    plain = {"weights_licence": "MIT", "attribution": "its authors"}
    return {"models": {"coconet": {**plain, **told}}}


def drop(foundry, name, summed=True):
    (foundry.folder / name).unlink()
    if summed:
        foundry.sum()


def write(foundry, name, text, summed=True):
    (foundry.folder / name).write_text(text)
    if summed:
        foundry.sum()


def sparse(foundry):
    with (foundry.folder / "huge.onnx").open("wb") as file:
        file.truncate(2**31)


def elsewhere(foundry):
    foundry.git("commit", "--quiet", "--allow-empty", "--message", "Later")


DEFECTS = {
    "a flipped byte": (flip, "int8.onnx: expected SHA-256 " + hashlib.sha256(LARGE).hexdigest()),
    "a missing file": (lambda one: drop(one, "coconet.md", summed=False), "coconet.md: expected a file, as SHA256"),
    "an extra file": (lambda one: write(one, "extra.md", "x", summed=False), "extra.md: expected no file that SHA256"),
    "sums that are none": (
        lambda one: write(one, "SHA256SUMS", "nonsense\n", summed=False), "SHA256SUMS:1: expected a SHA-256"),
    "an empty file": (lambda one: write(one, "coconet.md", ""), "coconet.md: expected some bytes, found an empty file"),
    "a file too large": (sparse, "huge.onnx: expected at most 2,147,483,647 bytes, which is GitHub's limit"),
    "a folder": (lambda one: (one.folder / "more").mkdir(), "more: expected a file, found something else"),
    "a name that GitHub changes": (lambda one: write(one, "two words.md", "x"), "found one that GitHub would change"),
    "a hidden file": (lambda one: write(one, ".DS_Store", "x"), "found one that GitHub would change"),
    "no sums": (lambda one: drop(one, "SHA256SUMS", summed=False), "dist/v1.0.0: expected SHA256SUMS in it"),
    "no text": (lambda one: drop(one, "notes.md"), "dist/v1.0.0: expected notes.md in it, found none"),
    "a text too long": (lambda one: write(one, "notes.md", "x" * 125_001), "notes.md: expected at most 125,000"),
    "a text of bytes": (lambda one: one.pack({**FILES, "notes.md": b"\xff\xfe"}), "notes.md: expected text in UTF-8"),
    "no folder": (lambda one: shutil.rmtree(one.folder), "dist/v1.0.0: expected the folder of the release"),
    "a manifest that is none": (lambda one: write(one, "manifest.json", "{"), "manifest.json: expected JSON, found"),
    "a manifest of a list": (lambda one: write(one, "manifest.json", "[]"), "manifest.json: expected version in it"),
    "no models": (lambda one: one.pack(models={}), "manifest.json: expected models in it, found none"),
    "another version": (lambda one: one.pack(version="v1.0.1"), "expected the version v1.0.0, found v1.0.1"),
    "seeded weights": (lambda one: one.pack(weights="seeded"), "expected released weights, found seeded ones"),
    "somebody's weights": (lambda one: one.pack(weights="custom"), "expected released weights, found custom ones"),
    "an unknown licence": (lambda one: one.pack(**models(weights_licence="CC-BY-ND-4.0")), "found CC-BY-ND-4.0"),
    "no licence": (lambda one: one.pack(**models(weights_licence=None)), "models.coconet.weights_licence: expected"),
    "no attribution": (lambda one: one.pack(**models(attribution=" ")), "models.coconet.attribution: expected whom"),
    "a card without its licence": (lambda one: one.pack({**FILES, "vampnet.md": b"# VampNet\n"}),
                                   "vampnet.md: expected a card that names the licence CC-BY-NC-SA-4.0"),
    "no card": (lambda one: drop(one, "vampnet.md"), "vampnet.md: expected a card that names the licence"),
    "a share-alike licence without a card": (lambda one: one.pack(**models(weights_licence="CC-BY-SA-4.0")),
                                             "coconet.md: expected a card that names the licence CC-BY-SA-4.0"),
    "a new file in the tree": (lambda one: (one.tree / "new.py").write_text(""), "isn't committed, found new.py"),
    "a changed file in the tree": (lambda one: (one.tree / ".gitignore").write_text("/dist/\n/build/\n__pycache__/\n"),
                                   "the tree: expected nothing that isn't committed, found .gitignore: commit"),
    "a tag elsewhere": (elsewhere, "v1.0.0: expected the git tag to name HEAD, which is "),
    "no tag": (lambda one: one.git("tag", "--delete", TAG), "v1.0.0: expected a git tag of that name, found none"),
    "another commit": (lambda one: one.pack(commit="0" * 40), "found some from 000000000000: run make package again"),
    "no repository": (lambda one: shutil.rmtree(one.tree / ".git"), "expected a git repository that can be asked"),
}


@pytest.mark.parametrize("case", DEFECTS)
def test_a_defect_is_refused_before_anything_is_asked(foundry, case):
    plant, expected = DEFECTS[case]
    plant(foundry)
    assert expected in foundry.refused()
    assert foundry.github.asked == []


NO_VERSIONS = ("", "1.0.0", "v1.0", "v01.0.0", "v1.0.0-beta", "v1.0.0-rc.01", "v1.0.0\n", "../v1.0.0")


@pytest.mark.parametrize("tag", NO_VERSIONS)
def test_what_is_no_version_is_refused(foundry, tag):
    foundry.tag = tag
    assert "TAG: expected a version such as v1.0.0 or v1.0.0-rc.1, found" in foundry.publish()[1]
    assert foundry.github.asked == []


@pytest.mark.parametrize(("told", "expected"), [
    ({"GITHUB_TOKEN": ""}, "GITHUB_TOKEN: expected a token"),
    ({"GITHUB_REPOSITORY": "foundry"}, "GITHUB_REPOSITORY: expected owner/name, found foundry"),
    ({"GITHUB_API_URL": "http://api.example.org"}, "GITHUB_API_URL: expected an address that begins with https://"),
    ({"GITHUB_API_URL": "https://"}, "GITHUB_API_URL: expected an address that begins with https://"),
    ({"GITHUB_API_URL": "http://127.0.0.1:port"}, "GITHUB_API_URL: expected an address that begins with https://"),
])
def test_where_it_goes_must_be_told(foundry, told, expected):
    assert expected in foundry.refused(**told)
    assert foundry.github.asked == []


# GitHub says no


@pytest.mark.parametrize(("told", "expected"), [
    ({"GITHUB_TOKEN": "ghp_ofNobody"}, "found the answer 401 Bad credentials: check both"),
    ({"GITHUB_TOKEN": READER}, "found the answer 403 Resource not accessible by personal access token: check both"),
    ({"GITHUB_REPOSITORY": "bells/other"}, "found the answer 404 Not Found: check both"),
])
def test_who_may_not_write_is_told_so(foundry, told, expected):
    assert expected in foundry.refused(**told)
    assert not foundry.github.releases


def test_a_repository_that_is_called_otherwise_by_now_is_refused(foundry, monkeypatch):
    monkeypatch.setitem(hosts.ANSWERS, "repository", lambda asked, github, body, writer: hosts.answer(
        asked, github, 200, {"id": 1, "full_name": "bells/renamed", "url": f"{github.url}/repos/bells/renamed"}))
    assert f"expected the repository {REPOSITORY}, found bells/renamed" in foundry.refused()


def test_what_is_no_github_is_refused(foundry):
    foundry.github.faults["repository"] = [
        lambda asked, github, route, parts: hosts.answer(asked, github, 200, b"<html>Sign in to this network</html>")]
    assert "found no API of GitHub" in foundry.refused()


def test_a_redirect_elsewhere_is_not_followed(foundry):
    foundry.github.faults["repository"] = [says(301, Location="https://example.org/repos/bells/foundry")]
    assert "expected GitHub's API, found a redirect: mend GITHUB_API_URL" in foundry.refused()


@pytest.mark.parametrize("commit", [None, "1" * 40])
def test_a_tag_that_github_has_not_is_refused(foundry, commit):
    """It would make a tag of its own, at the head of its main branch."""
    foundry.github.tags = {TAG: commit} if commit else {}
    expected = f"expected the tag v1.0.0 at {foundry.commit[:12]}, found {'1' * 12 if commit else 'none'}: push it"
    assert expected in foundry.refused()
    assert not foundry.github.releases


@pytest.mark.parametrize("change", [
    lambda files: files | {"coconet.md": b"# Another"}, lambda files: files | {"more.md": b"more"},
    lambda files: {name: data for name, data in files.items() if name != "notes.md"}])
def test_another_published_release_is_never_edited(foundry, change):
    published = foundry.github.add(TAG, draft=False)
    for name, data in change(foundry.files()).items():
        foundry.github.attach(published, name, data)
    before = foundry.github.published(TAG)
    assert "v1.0.0 is published already, with other files" in foundry.refused()
    assert foundry.github.published(TAG) == before and not foundry.github.edits
    assert set(foundry.github.asked) == {"repository", "commit", "list", "assets"}


def test_a_release_that_somebody_else_publishes_meanwhile_is_left_alone(foundry):
    def meanwhile(asked, github, route, parts):
        published = github.add(TAG, draft=False)
        for name, data in foundry.files().items():
            github.attach(published, name, data)
        serve(asked, github, route, parts)

    foundry.github.faults["create"] = [meanwhile, serve]
    status, said = foundry.publish()
    assert status == 0 and "is published already, the same files" in said and foundry.whole(), said


# A draft that is there


def test_a_draft_is_gone_on_with(foundry):
    """Of two the oldest, found on a later page; what is whole in it isn't sent again."""
    github, files = foundry.github, foundry.files()
    oldest, younger = github.add(TAG, body="old"), github.add(TAG)
    for number in range(5):
        github.add(f"v0.{number}.0", draft=number % 2 == 0)
    github.attach(oldest, "coconet-harmonizer-int8.onnx", LARGE)
    github.attach(oldest, "coconet.md", b"", "starter")
    github.attach(oldest, "notes.md", files["notes.md"].swapcase())
    github.attach(oldest, "vampnet.md", b"shorter")
    github.attach(oldest, "stray.md", b"stray")
    github.attach(younger, "manifest.json", files["manifest.json"])
    status, said = foundry.publish()
    assert status == 0 and foundry.whole() and github.releases[oldest]["body"] == FILES["notes.md"].decode(), said
    assert "coconet.md: expected it whole, found its state starter" in said
    assert "notes.md: expected SHA-256" in said and f"expected {len(FILES['vampnet.md'])} bytes, found 7" in said
    assert "stray.md: expected no such file" in said and "deleting a second draft" in said
    assert github.asked.count("upload") == 5 and github.asked.count("delete_asset") == 4
    assert len(github.releases) == 6


@pytest.mark.parametrize("intact", [True, False])
def test_where_no_digest_is_told_the_bytes_are_read_back(foundry, intact):
    github = foundry.github
    github.digests = False
    draft = github.add(TAG)
    github.attach(draft, "coconet-harmonizer-int8.onnx", LARGE if intact else LARGE[::-1])
    status, said = foundry.publish()
    assert status == 0 and foundry.whole(), said
    assert github.asked.count("upload") == (5 if intact else 6)
    assert github.asked.count("storage") == (6 if intact else 7)  # each of them once


# GitHub fails


def limited(seconds):
    """Requests are limited for so long from when the answer is given."""
    return lambda *told: says(403, "API rate limit exceeded for user", x_ratelimit_remaining="0",
                              x_ratelimit_reset=str(int(time.time()) + seconds))(*told)


LIMITED = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
QUESTIONS = ("repository", "commit", "list", "assets", "release")
SURVIVED = {
    "a gateway fails": ([page, page], "GitHub is out of order (502): trying again in 0 s"),
    "its own errors": ([says(500), says(503)], "GitHub is out of order (50"),
    "an answer too early": ([early, early], "trying again in 0 s"),
    "the answer is lost": ([unheard], "GitHub is out of order (502): trying again in 0 s"),
    "no answer in time": ([late], "no answer in time: trying again in 0 s"),
    "the connection is reset": ([cut, cut], "trying again in 0 s"),
    "too many requests, and for how long": ([says(403, LIMITED, Retry_After="2")],
                                            "GitHub limits requests (403): trying again in 2 s"),
    "too many requests, and not for how long": ([says(403, LIMITED)],
                                                "GitHub limits requests (403): trying again in 1 s"),
    "too many requests by another number": ([says(429, "Too many requests", Retry_After="1")],
                                            "GitHub limits requests (429): trying again in 1 s"),
    "too many requests in an hour": ([limited(2)], "GitHub limits requests (403): trying again in "),
}


@pytest.mark.parametrize("route", ["create", "upload", "publish"])
@pytest.mark.parametrize("case", SURVIVED)
def test_a_failure_that_passes_is_survived(foundry, route, case):
    faults, words = SURVIVED[case]
    foundry.github.faults[route] = [*faults, serve]
    status, said = foundry.publish()
    assert status == 0 and foundry.whole() and words in said, said


def test_as_long_as_it_gets_further_it_goes_on(foundry):
    """More failures than attempts in a row are allowed, and never one without a file that arrived beside it."""
    foundry.github.faults["upload"] = [page, serve] * 6
    status, said = foundry.publish()
    assert status == 0 and foundry.whole() and said.count("trying again in") >= 3, said


def test_questions_survive_failures_too(foundry):
    foundry.github.faults = {route: [page, cut, serve] for route in QUESTIONS}
    status, said = foundry.publish()
    assert status == 0 and foundry.whole() and said.count("trying again in") == 10, said


def test_deletions_survive_failures_too(foundry):
    github = foundry.github
    draft = github.add(TAG)
    github.add(TAG)
    for name in ("one.md", "two.md"):
        github.attach(draft, name, b"stray")
    github.faults = {"delete": [unheard, page, serve], "delete_asset": [unheard, cut, serve]}
    status, said = foundry.publish()
    assert status == 0 and foundry.whole(), said


def test_a_read_back_survives_failures_too(foundry):
    foundry.github.digests = False
    foundry.github.faults = {"storage": [says(500), cut, serve], "asset": [says(503), serve]}
    status, said = foundry.publish()
    assert status == 0 and foundry.whole(), said


def test_a_corrupted_upload_is_sent_again(foundry):
    foundry.github.faults["upload"] = [spoiled, serve]
    status, said = foundry.publish()
    assert status == 0 and foundry.whole() and "expected SHA-256" in said, said


FINAL = {
    "a gateway": ([page], "GitHub is out of order (502), 3 times in a row: run make publish again later"),
    "its errors": ([says(500)], "GitHub is out of order (500), 3 times in a row: run make publish again later"),
    "no answer": ([silent], "no answer in time, 3 times in a row: run make publish again later"),
    "resets": ([cut], "3 times in a row: run make publish again later"),
    "an hour's limit": ([limited(3600)], "GitHub limits requests (403) for 3"),
    "limits": ([says(429)], "GitHub limits requests (429), 3 times in a row"),
    "what it doesn't take": ([says(400, "Problems parsing\nJSON")], "found the answer 400 Problems parsing JSON: mend"),
}


@pytest.mark.parametrize(("route", "case"), [
    *((route, case) for route in ("upload", "publish") for case in FINAL),
    *((route, "a gateway") for route in QUESTIONS), ("create", "a gateway")])
def test_a_failure_that_stays_is_one_sentence_and_no_release(foundry, route, case):
    foundry.github.faults[route], expected = list(FINAL[case][0]), FINAL[case][1]
    assert expected in foundry.refused()
    assert foundry.github.published(TAG) == []
    foundry.github.faults.clear()
    assert foundry.publish()[0] == 0 and foundry.whole()


@pytest.mark.parametrize(("fault", "expected"), [
    (spoiled, "expected SHA-256"), (taken, "what was sent is there already, 3 times in a row")])
def test_an_upload_that_never_arrives_is_not_published(foundry, fault, expected):
    foundry.github.faults["upload"] = [fault]
    assert expected in foundry.refused()
    assert foundry.github.published(TAG) == []


def test_an_answer_that_is_always_lost_is_no_failure_where_the_deed_is_done(foundry):
    """Of uploads and of the publication itself: the next look finds it."""
    foundry.github.faults = {"upload": [unheard], "publish": [unheard]}
    status, said = foundry.publish()
    assert status == 0 and foundry.whole(), said


def test_a_draft_that_somebody_deletes_is_said(foundry):
    def deleted(asked, github, route, parts):
        github.releases.clear()
        serve(asked, github, route, parts)

    foundry.github.faults["release"] = [deleted]
    assert "expected its draft, found that somebody deleted it: run make publish again" in foundry.refused()


def test_nobody_listens(foundry):
    foundry.github.close()
    assert "no connection, 3 times in a row: run make publish again later" in foundry.refused()
    foundry.github = GitHub({})  # for the fixture to close


# Kills


class Killer:
    """Kills a process at its n-th request, at one moment of it; after that nobody is answered."""

    def __init__(self, number, moment):
        self.at, self.process = (number, moment), None

    def __call__(self, number, moment):
        if (number, moment) == self.at:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        if self.process.poll() is not None:
            raise ConnectionResetError


@pytest.mark.parametrize(("moment", "least"), [("before", 15), ("amid", 6), ("after", 15)])
def test_killed_at_any_request_the_next_one_completes(foundry, moment, least):
    """At the first request, at the second, …, until one has no more of them."""
    kills = 0
    for number in itertools.count(1):
        foundry.github.close()
        foundry.github = GitHub({TAG: foundry.commit})
        killer = foundry.github.watch = Killer(number, moment)
        with foundry.github.lock:  # which every request waits for
            killer.process = foundry.start()
        said = killer.process.communicate(timeout=60)[0]
        foundry.github.watch = lambda number, moment: None
        if killer.process.returncode == 0:
            assert foundry.whole()
            if len(foundry.github.asked) < number:
                break
            continue  # that request has no such moment
        assert killer.process.returncode == -signal.SIGKILL, said
        kills += 1
        assert foundry.github.published(TAG) in ([], [foundry.files()])
        status, said = foundry.publish()
        assert status == 0 and foundry.whole(), f"{moment} {number}: {said}"
    assert kills >= least


def test_an_interruption_is_said_and_gone_on_from(foundry):
    foundry.github.faults["upload"] = [done]
    process = foundry.start(patience={**HASTY, "receiving": 3})
    while foundry.github.asked.count("upload") < 2:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 130 and "interrupted: what was finished is kept" in said and "Traceback" not in said
    foundry.github.faults.clear()
    assert foundry.publish()[0] == 0 and foundry.whole()


def test_two_at_once_take_turns(foundry):
    both = [foundry.start(), foundry.start()]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert foundry.whole() and foundry.github.asked.count("upload") == 6
