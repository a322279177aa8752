"""The authors' weights in their hosts' own layouts: fetched, proven, recorded, and built from without a network."""

import hashlib
import json
import os
import re
import shutil
import tarfile
import tomllib
from pathlib import Path

import pytest

from scripts import recipe, source, sources
from tests.conftest import FULL, ROOT, copy_tree, run
from tests.released import fixtures
from tests.released.host import Host, says

MODELS = [model for model in recipe.models(ROOT) if "released" in recipe.read(ROOT, model)["sources"]]


@pytest.fixture(scope="session")
def authors(tiny, tmp_path_factory) -> Path:
    """What the hosts have, a folder a host's first part of its paths."""
    return fixtures.write(ROOT / "build/tiny", tmp_path_factory.mktemp("hosts"), MODELS)


class Workplace:
    """A tree whose record points to a host of the fixtures, with a cache of its own that has the toolchains."""

    def __init__(self, folder: Path, authors: Path):
        self.hosted = folder / "hosts"
        shutil.copytree(authors, self.hosted)
        self.host = Host(self.hosted)
        self.tree = copy_tree(folder / "tree")
        fixtures.point(self.tree, self.host.url, self.hosted)
        self.cache = folder / "cache"
        (self.cache / "bellfoundry").mkdir(parents=True)
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bellfoundry"
        run("scripts/in", "download")  # makes it
        for toolchain in home.glob("*-*"):
            (self.cache / "bellfoundry" / toolchain.name).symlink_to(toolchain)
        self.sources = self.cache / "bellfoundry/sources"

    def make(self, *words: str, status: int = 0) -> str:
        done = run("make", "--no-print-directory", *words, cwd=self.tree, XDG_CACHE_HOME=str(self.cache))
        assert done.returncode == status and "Traceback" not in done.stderr, done.stdout + done.stderr
        return done.stdout + done.stderr

    def fetch(self, model: str, *words: str, status: int = 0) -> str:
        return self.make("fetch", f"MODELS={model}", "WEIGHTS=released", *words, status=status)

    def record(self) -> dict:
        return tomllib.loads((self.tree / "checksums/sources.toml").read_text())


@pytest.fixture
def workplace(tmp_path, authors):
    made = Workplace(tmp_path, authors)
    yield made
    made.host.close()


def fetched(folder: Path) -> dict[str, bytes]:
    own = ("manifest.json", "timing.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and path.name not in own}


# The whole way


@pytest.fixture(scope="module")
def offline(tmp_path_factory, authors):
    """A workplace without any network whose tree has no builds, the folder of all files that it has fetched, what was
    said then, and what the stage fetch of each model had.
    """
    one = Workplace(tmp_path_factory.mktemp("offline"), authors)
    said = one.make("fetch", "WEIGHTS=released", "TRUST=first-use")
    folders = {model: fetched(one.tree / f"build/released/{model}/fetch") for model in MODELS}
    one.host.close()
    one.host.asked.clear()
    given = one.cache.parent / "given"
    one.sources.rename(given)
    shutil.rmtree(one.tree / "build")
    return one, given, said, folders


def test_every_model_is_fetched_from_the_authors_layouts(offline):
    """What isn't known is recorded on first use."""
    _, _, said, folders = offline
    recorded = set(re.findall(r"recorded (\d+) files? of (\S+) in", said))
    assert recorded == {("295", "ismir2021"), ("1", "coconet-browser")}
    for model, there in folders.items():
        made = fetched(ROOT / f"build/tiny/{model}/fetch")
        assert there == {name: made[name] for name in there}
        assert set(made) - set(there) <= {"checkpoint", "best_model.ckpt.meta"}  # which no build reads
    assert not [name for there in folders.values() for name in there if name.endswith("wavebeat.pth")]


@pytest.mark.parametrize("model", MODELS)
def test_a_model_is_built_from_a_folder_of_files_without_any_network(offline, model):
    """Then not built again, though the folder is gone."""
    if model != "coconet" and not FULL:
        pytest.skip("NOT BUILT from the authors' layouts, whose files are the toys', which are: FULL=1 builds both")
    one, given, _, _ = offline
    said = one.make("all", "WEIGHTS=released", f"MODELS={model}", f"SOURCES={given}")
    report = json.loads((one.tree / f"build/released/{model}/verify/report.json").read_text())
    assert report["artifacts"]
    assert f"nothing is recorded of {model} yet: make checksums WEIGHTS=released records" in said
    hidden = given.rename(given.with_name("hidden"))
    try:
        assert "done in" not in one.make("all", "WEIGHTS=released", f"MODELS={model}") and one.host.asked == []
    finally:
        hidden.rename(given)


def test_what_is_built_of_it_is_played_recorded_and_verified(offline):
    one, given, _, _ = offline
    one.make("coconet", "WEIGHTS=released", f"SOURCES={given}")
    out = one.cache.parent / "chorale.mid"
    one.make("play", "MODEL=coconet", "WEIGHTS=released", "IN=models/coconet/samples/old-hundredth.mid", f"OUT={out}")
    assert out.stat().st_size > 50
    one.make("checksums", "WEIGHTS=released", "MODELS=coconet")
    assert "matches" in one.make("coconet", "WEIGHTS=released")
    assert "every byte of the released build" in one.make("verify", "WEIGHTS=released", "MODELS=coconet")


def test_a_cached_source_is_built_from_without_a_request(workplace):
    workplace.fetch("groovae")
    workplace.host.asked.clear()
    shutil.rmtree(workplace.tree / "build")
    workplace.fetch("groovae")
    assert workplace.host.asked == []


def test_models_that_sources_lacks_are_left_out(workplace, tmp_path):
    given = tmp_path / "given"
    given.mkdir()
    said = workplace.fetch("groovae coconet", f"SOURCES={given}", status=2)
    assert "expected groovae/groovae_2bar_tap_fixed_velocity.tar, or coconet/checkpoint.zip in it, found none" in said
    shutil.copy(workplace.hosted / fixtures.ARCHIVES["groovae"], given)
    said = workplace.fetch("groovae coconet", f"SOURCES={given}")
    assert "left out: SOURCES has no coconet/checkpoint.zip" in said
    assert (workplace.tree / "build/released/groovae/fetch/manifest.json").is_file()
    assert workplace.host.asked == [] and not [path for path in workplace.sources.rglob("*") if path.name != ".lock"]


# What is known and what isn't


def test_a_source_that_nobody_knows_is_refused_unless_it_is_trusted(workplace):
    fixtures.forget(workplace.tree, "coconet")
    said = workplace.fetch("coconet", status=2)
    assert "add TRUST=first-use" in said and workplace.host.asked == []
    said = workplace.fetch("coconet", "TRUST=first-use")
    assert "Licence: Apache-2.0" in said and "review it before you commit it" in said
    [entry] = workplace.record()["coconet"]["files"].values()
    data = (workplace.hosted / fixtures.ARCHIVES["coconet"]).read_bytes()
    assert entry["sha256"] == hashlib.sha256(data).hexdigest() and entry["bytes"] == len(data)
    assert entry["grade"] == "pinned"
    assert re.fullmatch(r"first use of http://\S+ on \d{4}-\d\d-\d\d", entry["from"])
    assert "Apache-2.0" in (workplace.sources / "coconet/LICENCE.txt").read_text()


def test_after_a_first_use_any_other_file_is_an_error_with_both_hashes(workplace):
    fixtures.forget(workplace.tree, "coconet")
    workplace.fetch("coconet", "TRUST=first-use")
    [entry] = workplace.record()["coconet"]["files"].values()
    shutil.rmtree(workplace.sources)
    shutil.rmtree(workplace.tree / "build")
    path = workplace.hosted / fixtures.ARCHIVES["coconet"]
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    for trust in ([], ["TRUST=first-use"]):
        said = workplace.fetch("coconet", *trust, status=2)
        assert entry["sha256"] in said and hashlib.sha256(data).hexdigest() in said
    assert not (workplace.sources / "coconet/checkpoint.zip").exists()


def test_groovae_is_known_by_what_its_archive_holds(workplace):
    """Whatever is reported of the archive itself: packed again it is the same, with a byte flipped inside it isn't."""
    path = workplace.hosted / fixtures.ARCHIVES["groovae"]
    data = bytearray(path.read_bytes())
    data[data.index(b"data-00000-of-00001") + 5000] ^= 1
    path.write_bytes(data)
    said = workplace.fetch("groovae", status=2)
    assert "model.ckpt-3668.data-00000-of-00001: expected Git's blob" in said and "has it as reported" in said
    assert not (workplace.sources / "groovae" / path.name).exists()
    data[data.index(b"data-00000-of-00001") + 5000] ^= 1
    path.write_bytes(data)
    with tarfile.open(path) as packed:
        packed.extractall(workplace.hosted / "again", filter="data")
    with tarfile.open(path, "w") as packed:
        packed.add(workplace.hosted / "again", ".")
    said = workplace.fetch("groovae")
    assert "add TRUST" not in said and "it isn't the archive that is reported" in said


def spoilt(workplace: "Workplace", model: str, name: str, last: bytes) -> str:
    """The SHA-256 that a member of a hosted archive has when its last byte is another."""
    path = workplace.hosted / fixtures.ARCHIVES[model]
    return hashlib.sha256(fixtures.repack(path, name, lambda content: content[:-1] + last)).hexdigest()


def test_a_member_that_isn_t_the_reported_one_is_an_error_with_both_hashes(workplace):
    record = workplace.record()
    reported = record["vampnet"]["members"]["coarse.pth"]["sha256"]
    found = spoilt(workplace, "vampnet", "coarse.pth", b"!")
    said = workplace.fetch("vampnet", status=2)
    assert f"coarse.pth: expected SHA-256 {reported}, found {found}" in said
    assert "has it as reported, by Git LFS pointers" in said and "nobody has verified" in said
    assert "add TRUST=first-use, which takes what is there and records it" in said
    assert workplace.record() == record and not (workplace.tree / "build/released/vampnet/fetch").exists()


def test_trust_overrules_what_is_reported_of_a_member_and_pins_what_came(workplace):
    """Another one isn't taken from then on, whatever TRUST says."""
    members = workplace.record()["vampnet"]["members"]
    reported, found = members["coarse.pth"]["sha256"], spoilt(workplace, "vampnet", "coarse.pth", b"!")
    said = workplace.fetch("vampnet", "TRUST=first-use")
    assert f"coarse.pth: expected SHA-256 {reported}, found {found}: it isn't what is reported" in said
    entry = workplace.record()["vampnet"]["members"]["coarse.pth"]
    assert (entry["sha256"], entry["grade"]) == (found, "pinned")
    assert f"in place of sha256 {reported}, Git LFS" in entry["from"]
    assert workplace.record()["vampnet"]["members"] == {**members, "coarse.pth": entry}
    shutil.rmtree(workplace.tree / "build")
    workplace.fetch("vampnet")
    shutil.rmtree(workplace.sources)
    shutil.rmtree(workplace.tree / "build")
    other = spoilt(workplace, "vampnet", "coarse.pth", b"?")
    said = workplace.fetch("vampnet", "TRUST=first-use", status=2)
    assert f"coarse.pth: expected SHA-256 {found}, found {other}" in said and "pins it, from first use" in said


def test_a_member_that_isn_t_the_pinned_one_is_an_error_whatever_trust_says(workplace):
    record, found = workplace.record(), spoilt(workplace, "coconet", "config", b" ")
    for trust in ([], ["TRUST=first-use"]):
        said = workplace.fetch("coconet", *trust, status=2)
        assert f"config: expected SHA-256 {record['coconet']['members']['config']['sha256']}, found {found}" in said
        assert "checksums/sources.toml pins it, from" in said and "add TRUST" not in said
    assert workplace.record() == record and not (workplace.sources / "coconet/checkpoint.zip").exists()


def test_what_is_reported_of_a_source_in_part_is_told_and_overruled_on_first_use(workplace):
    """Of ismir2021 one file of 295 is: without TRUST nothing is asked for."""
    reported = workplace.record()["ismir2021"]["files"]["checkpoint"]["sha256"]
    said = workplace.fetch("ismir2021", status=2)
    assert "found that of checkpoint alone: add TRUST=first-use" in said and workplace.host.asked == []
    file = workplace.hosted / fixtures.FOLDERS["ismir2021"] / "checkpoint"
    record = workplace.tree / "checksums/sources.toml"
    record.write_text(record.read_text().replace(reported, "0" * 64))
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    said = workplace.fetch("ismir2021", "TRUST=first-use")
    assert f"expected SHA-256 {'0' * 64}, found {found}: it isn't what is reported" in said
    told = workplace.record()["ismir2021"]
    assert "files" not in told and told["sums"]["file"] == "sources/ismir2021.sha256"
    assert f"checkpoint: in place of sha256 {'0' * 64}, a third party's document" in told["sums"]["from"]
    assert told["bytes"] == sum(path.stat().st_size for path in file.parent.rglob("*") if path.is_file())
    assert run("sha256sum", "-c", "--quiet", workplace.tree / "checksums/sources/ismir2021.sha256",
               cwd=file.parent).returncode == 0
    shutil.rmtree(workplace.sources)
    shutil.rmtree(workplace.tree / "build")
    assert "it isn't what is reported" not in workplace.fetch("ismir2021")


def test_a_pinned_manifest_isn_t_overruled(workplace):
    path = workplace.hosted / fixtures.BROWSER / "weights_manifest.json"
    known = workplace.record()["coconet-browser"]["files"]["weights_manifest.json"]["sha256"]
    path.write_bytes(path.read_bytes()[:-2] + b"]\n")
    said = workplace.fetch("coconetjs", "TRUST=first-use", status=2)
    assert f"expected SHA-256 {known}, found {hashlib.sha256(path.read_bytes()).hexdigest()}" in said
    assert [asked for asked, _ in workplace.host.asked if "group1" in asked] == []


def test_a_page_instead_of_a_file_is_never_trusted(workplace):
    record = workplace.record()
    workplace.host.faults["/" + fixtures.ARCHIVES["coconet"]] = [
        says(200, b"<html>moved</html>", Content_Type="text/html")]
    said = workplace.fetch("coconet", "TRUST=first-use", status=2)
    assert "expected a tar or zip archive" in said
    assert workplace.record() == record and not (workplace.sources / "coconet/checkpoint.zip").exists()


# Hosts that publish hashes


def test_zenodos_md5_is_checked(workplace):
    path = workplace.hosted / fixtures.ARCHIVES["vampnet"]
    said_by_zenodo = hashlib.md5(path.read_bytes()).hexdigest()
    changed = path.read_bytes()[:-1] + b"!"
    workplace.host.faults["/" + fixtures.ARCHIVES["vampnet"]] = [says(200, changed)]
    record = workplace.record()
    said = workplace.fetch("vampnet", "TRUST=first-use", status=2)
    assert f"expected MD5 {said_by_zenodo}, found {hashlib.md5(changed).hexdigest()}" in said
    assert workplace.record() == record


def test_a_source_that_is_known_whole_does_without_zenodos_record(workplace):
    """One that nobody knows doesn't."""
    workplace.host.faults["/api/records/8136629"] = [says(404)]
    workplace.fetch("vampnet")
    shutil.rmtree(workplace.sources)
    shutil.rmtree(workplace.tree / "build")
    fixtures.forget(workplace.tree, "vampnet")
    assert "expected a file, found 404" in workplace.fetch("vampnet", "TRUST=first-use", status=2)


def test_a_bucket_that_is_known_whole_isn_t_listed(workplace):
    """What else lies in it doesn't come."""
    (workplace.hosted / fixtures.FOLDERS["mt3"] / "one_more").write_bytes(b"more")
    assert "fetching 295 files of" in workplace.fetch("mt3")
    assert [path for path, _ in workplace.host.asked if "storage/v1" in path or "one_more" in path] == []


def test_an_object_that_isn_t_the_pinned_one_is_refused_whatever_trust_says(workplace):
    name = "target.decoder.logits_dense.kernel/0.0"
    path = workplace.hosted / fixtures.FOLDERS["mt3"] / name
    workplace.host.faults[f"/{fixtures.FOLDERS['mt3']}/{name}"] = [says(200, bytes(path.stat().st_size))]
    said = workplace.fetch("mt3", "TRUST=first-use", status=2)
    assert f"{name}: expected SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}" in said
    assert not list((workplace.sources / "mt3" / name).parent.glob("0.0*"))


def test_a_bucket_of_twice_the_known_size_is_noticed_before_it_comes(workplace):
    item = {"name": "checkpoints/ismir2021/checkpoint", "size": "344000001", "md5Hash": ""}
    workplace.host.faults["/storage/v1/b/mt3/o"] = [says(200, json.dumps({"items": [item]}).encode())]
    said = workplace.fetch("ismir2021", "TRUST=first-use", status=2)
    assert "expected 344,000,000 bytes at most, found 344,000,001" in said
    assert [path for path, _ in workplace.host.asked if "storage/v1" not in path] == []


def test_an_object_that_isnt_the_listed_one_is_refused(workplace):
    name = "target.decoder.logits_dense.kernel/0.0"
    path = workplace.hosted / fixtures.FOLDERS["ismir2021"] / name
    workplace.host.faults[f"/{fixtures.FOLDERS['ismir2021']}/{name}"] = [says(200, bytes(path.stat().st_size))]
    said = workplace.fetch("ismir2021", "TRUST=first-use", status=2)
    assert f"{name}: expected MD5 {hashlib.md5(path.read_bytes()).hexdigest()}" in said
    assert not list((workplace.sources / "ismir2021" / name).parent.glob("0.0*"))


@pytest.mark.parametrize("name", ["../../planted", "/planted", "a/../../../planted", "LICENCE.txt", ".lock",
                                  "x.partial"])
def test_a_name_that_lies_outside_is_refused_before_anything_comes(workplace, name):
    listing = json.dumps({"items": [{"name": f"checkpoints/ismir2021/{name}", "size": "3", "md5Hash": ""}]}).encode()
    workplace.host.faults["/storage/v1/b/mt3/o"] = [says(200, listing)]
    said = workplace.fetch("ismir2021", "TRUST=first-use", status=2)
    assert "expected names of files inside the source's folder" in said
    assert not list(workplace.cache.parent.rglob("planted"))


@pytest.mark.parametrize(("listing", "said"), [
    *((none, "expected a listing of the bucket's objects") for none in (
        b"<html>", b"[]", b'{"items": [{"name": 3}]}', b'{"items": [{}]}', b"", b"[" * 100_000)),
    (b"{}", "expected objects under checkpoints/ismir2021/, found none"),
    (b'{"nextPageToken": "again"}', "expected a listing of the bucket's objects"),
    (b" " * 17_000_000, "expected a listing of 16,777,216 bytes at most"),
], ids=range(9))
def test_a_listing_that_is_none_is_refused(workplace, listing, said):
    """Or one that has no end."""
    workplace.host.faults["/storage/v1/b/mt3/o"] = [says(200, listing)]
    assert said in workplace.fetch("ismir2021", "TRUST=first-use", status=2)


# The edition for browsers


def download(workplace: Workplace, name: str, *words: str, status: int = 0) -> str:
    done = run("scripts/in", "download", "python", "-m", "scripts.download", name, *words, cwd=workplace.tree,
               XDG_CACHE_HOME=str(workplace.cache))
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def test_tensorflow_js_shards_come_with_their_manifest(workplace, golden):
    fixtures.forget(workplace.tree, "coconet-browser")
    target = fixtures.write_browser(golden / "coconet/js-spec.json", workplace.hosted)
    assert "fetching 3 files" in download(workplace, "coconet-browser", "--trust", "first-use")
    assert len(workplace.record()["coconet-browser"]["files"]) == 3
    cached = workplace.sources / "coconet-browser"
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        path.name: path.read_bytes() for path in cached.iterdir() if path.name not in (".lock", "LICENCE.txt")}
    workplace.host.asked.clear()
    download(workplace, "coconet-browser")
    assert workplace.host.asked == []


def test_the_authors_manifest_is_pinned_and_the_size_of_its_shard(workplace, golden):
    """The shard itself is recorded when it first comes."""
    folder, known = workplace.hosted / fixtures.BROWSER, sources.get(ROOT, "coconet-browser")["files"]
    shutil.copy(golden / "coconet/released/browser_weights_manifest.json", folder / "weights_manifest.json")
    (folder / "group1-shard1of1").write_bytes(bytes(553_436))
    shutil.copy(ROOT / "checksums/sources.toml", workplace.tree / "checksums/sources.toml")
    fixtures.point(workplace.tree, workplace.host.url, workplace.hosted)
    assert workplace.record()["coconet-browser"]["files"] == known
    (folder / "group1-shard1of1").write_bytes(bytes(553_435))
    said = download(workplace, "coconet-browser", "--trust", "first-use", status=2)
    assert "group1-shard1of1: expected 553,436 bytes, found 553,435" in said
    assert workplace.record()["coconet-browser"]["files"] == known
    (folder / "group1-shard1of1").write_bytes(bytes(553_436))
    assert "recorded 1 file of coconet-browser" in download(workplace, "coconet-browser", "--trust", "first-use")
    found = workplace.record()["coconet-browser"]["files"]
    assert found["weights_manifest.json"] == known["weights_manifest.json"]
    assert found["group1-shard1of1"]["sha256"] == hashlib.sha256(bytes(553_436)).hexdigest()


@pytest.mark.parametrize("path", ["../planted", "\ud800", "/planted", ""])
def test_shards_of_bad_names_are_refused(workplace, path):
    fixtures.forget(workplace.tree, "coconet-browser")
    manifest = json.dumps([{"paths": [path], "weights": []}]).encode()
    workplace.host.faults[f"/{fixtures.BROWSER}/weights_manifest.json"] = [says(200, manifest)]
    assert "error: http://" in download(workplace, "coconet-browser", "--trust", "first-use", status=2)
    assert not list(workplace.cache.parent.rglob("planted"))


def test_shards_that_are_too_short_for_their_manifest_are_refused(workplace, golden):
    fixtures.forget(workplace.tree, "coconet-browser")
    target = fixtures.write_browser(golden / "coconet/js-spec.json", workplace.hosted)
    (target / "group1-shard2of2").write_bytes(b"short")
    said = download(workplace, "coconet-browser", "--trust", "first-use", status=2)
    assert "expected 2,213,232 bytes of weights in group1-shard1of2, group1-shard2of2, found" in said


# A user's own archives, and what the record says


@pytest.mark.parametrize("model", ["coconet", "vampnet"])
def test_the_authors_archives_are_checkpoints_too(authors, tmp_path, model):
    source.copy(authors / fixtures.ARCHIVES[model], recipe.read(ROOT, model)["sources"]["custom"], tmp_path)
    made = fetched(ROOT / f"build/tiny/{model}/fetch")
    names = recipe.read(ROOT, model)["sources"]["custom"]["files"]
    assert fetched(tmp_path) == {name: made[name] for name in names}


@pytest.mark.parametrize("model", MODELS)
def test_the_record_has_each_models_source_and_its_licence(model):
    told = recipe.read(ROOT, model)
    assert sources.get(ROOT, told["sources"]["released"]["source"])["licence"] == told["weights_licence"]


def test_groovaes_released_index_is_the_recorded_one():
    text = (ROOT / "models/groovae/source.py").read_text()
    [pinned] = re.findall(r'RELEASED_INDEX = "(\w+)"', text)
    assert sources.get(ROOT, "groovae")["members"]["model.ckpt-3668.index"]["sha256"] == pinned
