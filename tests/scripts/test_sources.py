"""What the record of the authors' files says, how strictly it is read, and what it can say of other people's."""

import hashlib
import re
import shutil

import pytest

from scripts import sources
from scripts.job import Refusal
from tests.conftest import ROOT

LIST = "checksums/sources/mt3.sha256"


@pytest.fixture
def record(tmp_path):
    """A root that has a copy of the record and of its lists."""
    for name in (sources.RECORD, LIST):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_sizes_are_the_true_ones_as_far_as_anybody_knows_them():
    """In bytes; of an archive that isn't known itself, what it holds."""
    assert {name: sources.size(told) for name, told in sources.read(ROOT).items()} == {
        "coconet": 93_122_683, "coconet-browser": 42_478 + 553_436, "groovae": 64_475_682, "mt3": 171_589_452,
        "ismir2021": 172_000_000, "vampnet": 1_332_182_321 + 1_101_898_865 + 600_996_465}


@pytest.mark.parametrize(("name", "kind", "file", "place"), [
    ("coconet", "members", "config", "coconet/released/config"),
    ("coconet", "members", "best_model.ckpt.index", "coconet/released/best_model.ckpt.index"),
    ("coconet-browser", "files", "weights_manifest.json", "coconet/released/browser_weights_manifest.json"),
    ("groovae", "members", "model.ckpt-3668.index", "groovae/model.ckpt-3668.index"),
])
def test_a_pinned_file_that_is_at_hand_is_the_recorded_one(golden, name, kind, file, place):
    known, content = sources.get(ROOT, name)[kind][file], (golden / place).read_bytes()
    assert (known["bytes"], known["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert sources.pinned(known)


def test_all_but_two_sources_are_known_whole():
    assert {name for name, told in sources.read(ROOT).items() if not sources.known(told)} == {
        "coconet-browser", "ismir2021"}


def test_every_hash_of_the_record_says_where_it_is_from():
    for name, told in sources.read(ROOT).items():
        entries = [entry for kind in ("files", "members") for entry in told.get(kind, {}).values()]
        assert entries and all(entry["from"] for entry in entries), name


@pytest.mark.parametrize(("change", "said"), [
    (lambda text: text.replace("1a5e", "1A5E", 1), "mt3.sha256:1: expected a SHA-256, two spaces and a path"),
    (lambda text: text + "one more line\n", "mt3.sha256:296: expected a SHA-256, two spaces and a path"),
    (lambda text: "", "mt3.sha256: expected the hashes that checksums/sources.toml names, found none"),
])
def test_a_list_that_is_none_is_refused(record, change, said):
    (record / LIST).write_text(change((record / LIST).read_text()))
    with pytest.raises(Refusal, match=re.escape(said) + ".*restore it from git"):
        sources.read(record)


def test_a_list_that_isn_t_there_is_refused(record):
    (record / LIST).unlink()
    with pytest.raises(Refusal, match=r"mt3.sha256: expected the hashes that .* found none: restore it"):
        sources.read(record)


@pytest.mark.parametrize(("good", "bad", "said"), [
    ('layout = "tfjs"', 'layout = "zip"', "unknown layout 'zip'"),
    ("[groovae.members]", "[ismir2021.members]", "ismir2021.members is for a source that is an archive"),
    ("[ismir2021.files]", "[mt3.files]", "mt3.sums is for a source of objects without a table of files"),
    ('mt3.sha256", grade = "pinned"', 'mt3.sha256", grade = "known"', "unknown grade 'known' of mt3.sums"),
    ("[ismir2021.files]", "[ismir2021.file]", "unknown key 'file' in ismir2021"),
])
def test_a_record_that_contradicts_itself_is_refused_by_its_line(record, good, bad, said):
    path = record / sources.RECORD
    assert good in path.read_text()
    path.write_text(path.read_text().replace(good, bad))
    with pytest.raises(Refusal, match=rf"{sources.RECORD}:\d+: .*" + re.escape(said)):
        sources.read(record)


def vouched(folder, told, **files: bytes) -> str:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return sources.vouch(told, folder, {name: hashlib.sha256(content).hexdigest() for name, content in files.items()})


def test_somebody_s_own_files_are_the_authors_only_by_hash(tmp_path):
    told = {"files": {"archive": {"bytes": 9, "grade": "reported"}},
            "members": {"index": {"sha256": hashlib.sha256(b"one").hexdigest(), "grade": "pinned"},
                        "data": {"git_blob": hashlib.sha1(b"blob 3\0two").hexdigest(), "grade": "reported"}}}
    said = vouched(tmp_path, told, index=b"one", data=b"two")
    assert "all 2 files are the authors' by hash" in said and "of data the hash is reported, not verified" in said
    assert "reported" not in vouched(tmp_path, told, index=b"one")
    said = vouched(tmp_path, told, index=b"one", data=b"TWO")
    assert said.startswith("nothing can prove where these bytes are from")
    assert "1 of 2 files are the authors' by hash, data isn't" in said
    for known in (told, {}):
        said = vouched(tmp_path, known, index=b"ONE", more=b"two")
        assert said.startswith("nothing can prove where these bytes are from") and "by hash" not in said
