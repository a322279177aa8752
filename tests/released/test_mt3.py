"""The authors' MT3, whole, as it lies beside the repository: the record knows it byte for byte."""

import json
import shutil
from pathlib import Path

import pytest

from scripts import sources
from tests.conftest import ROOT, copy_tree, made, run

CHUNK = "target.encoder.layers_3.attention.query.kernel/0.0"
OTHER = "target.encoder.layers_4.attention.query.kernel/0.0"  # of the same shape


@pytest.fixture
def given(golden, tmp_path) -> Path:
    """The files as a user may have them, in SOURCES/mt3: links, of which one can be put in another's place."""
    released, folder = golden / "mt3/released", tmp_path / "given/mt3"
    for path in released.rglob("*"):
        if path.is_file():
            (folder / path.relative_to(released)).parent.mkdir(parents=True, exist_ok=True)
            (folder / path.relative_to(released)).symlink_to(path.resolve())
    return folder.parent


def prove(given: Path, *words: str) -> tuple[int, str]:
    """The exit status of a proof, and what it says. Nothing is written into the record."""
    before = (ROOT / sources.RECORD).read_bytes()
    done = run("scripts/in", "download", "python", "-m", "scripts.download", "mt3", "--sources", given, *words)
    assert "Traceback" not in done.stderr and (ROOT / sources.RECORD).read_bytes() == before
    return done.returncode, done.stdout


def refused(given: Path) -> str:
    """The sentence in which the folder is refused, with TRUST and without."""
    [(status, said), trusted] = prove(given), prove(given, "--trust", "first-use")
    assert status == 2 and trusted == (status, said)
    return said.splitlines()[-1]


def test_the_record_is_of_its_files_and_of_their_bytes(golden):
    told, released = sources.get(ROOT, "mt3"), golden / "mt3/released"
    files = {path.relative_to(released).as_posix(): path for path in released.rglob("*") if path.is_file()}
    assert told["files"].keys() == files.keys() and len(files) == 295
    assert told["bytes"] == sum(path.stat().st_size for path in files.values())
    assert sources.known(told) and all(map(sources.pinned, told["files"].values()))


def test_it_is_accepted_whole_and_no_trust_is_asked(given):
    status, said = prove(given)
    assert status == 0 and "error" not in said


def test_a_chunk_of_another_run_is_refused_by_name_with_both_hashes(given):
    """Its structure is right: it is an array's of the same shape."""
    hashes = {name: sources.get(ROOT, "mt3")["files"][name]["sha256"] for name in (CHUNK, OTHER)}
    (given / "mt3" / CHUNK).unlink()
    (given / "mt3" / CHUNK).symlink_to((given / "mt3" / OTHER).resolve())
    said = refused(given)
    assert f"{CHUNK}: expected SHA-256 {hashes[CHUNK]}, found {hashes[OTHER]}: checksums/sources.toml pins it" in said
    assert f"CHECKPOINT={given}/mt3" in said


@pytest.mark.parametrize("name", [CHUNK, "target.decoder.logits_dense.kernel/.zarray"])
def test_a_missing_file_is_named(given, name):
    (given / "mt3" / name).unlink()
    assert f"expected {name}, found none" in refused(given)


def test_a_file_too_many_is_named(given):
    """One that a build would read, that is: what else lies there doesn't count."""
    (given / "mt3/notes.txt").write_text("mine")
    assert prove(given)[0] == 0
    extra = given / "mt3/target.decoder.layers_0.extra.kernel/.zarray"
    extra.parent.mkdir()
    extra.write_text("{}")
    said = refused(given)
    assert f"{extra}: expected none but the 295 files that checksums/sources.toml knows of mt3, found this one" in said


def test_it_is_fetched_without_trust_and_without_a_network(golden, tmp_path):
    """From a folder inside the tree whose `mt3` leads elsewhere, which a container wouldn't see."""
    tree = copy_tree(tmp_path / "tree")
    (tree / "given").mkdir()
    (tree / "given/mt3").symlink_to((golden / "mt3/released").resolve())
    made("fetch", "MODELS=mt3", "WEIGHTS=released", "SOURCES=given", cwd=tree)
    told = json.loads((tree / "build/released/mt3/fetch/manifest.json").read_text())
    assert {file["file"]: file["sha256"] for file in told["outputs"]} == {
        name: entry["sha256"] for name, entry in sources.get(ROOT, "mt3")["files"].items()}


def test_a_checkpoint_of_one_s_own_is_said_to_be_the_authors_or_to_be_unprovable(given, tmp_path):
    """By hash, whatever its name is; once, when it is copied."""
    tree, words = copy_tree(tmp_path / "tree"), ("fetch", "MODELS=mt3", "WEIGHTS=custom", f"CHECKPOINT={given}/mt3")
    said = made(*words, cwd=tree)
    assert "all 295 files are the authors' by hash, as checksums/sources.toml knows them" in said
    assert "nothing can prove" not in said
    (given / "mt3" / CHUNK).unlink()
    shutil.copy(given / "mt3" / OTHER, given / "mt3" / CHUNK)
    said = made(*words, cwd=tree)
    assert "nothing can prove where these bytes are from" in said
    assert f"(294 of 295 files are the authors' by hash, {CHUNK} isn't)" in said
    assert "by hash" not in made(*words, cwd=tree)
