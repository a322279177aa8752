"""Same inputs, same bytes: wherever, whenever and by whomever it is built."""

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from scripts import places, recipe
from tests.conftest import FULL, ROOT, SMALL, built, copy_tree, made, run
from tests.scripts import toy


def proven(name: str) -> bool:
    """Whether it is on record that today's inputs give the same bytes in another place, and needn't be seen again."""
    return not FULL and places.recorded().get(name) == places.key(name)


@pytest.mark.parametrize("model", recipe.models(ROOT))
def test_two_places_give_equal_bytes(tiny, tmp_path, model):
    """Another folder with a space in its name, hash seed, threads, time zone, locale, umask, processor and clock. Built
    there only where checksums/places.toml was written for other inputs.
    """
    assert len(places.hashes(built(model, "tiny"))) >= 15
    assert proven(model) or places.differences(model, tmp_path / "an other place") == []


def test_real_size_calibration_does_not_follow_threads_or_processor(seeded, tmp_path):
    """The stage whose bytes rest on measured activations, again on one thread without the CPU's vector units."""
    assert proven(places.CALIBRATION) or places.differences(places.CALIBRATION, tmp_path / "an other place") == []


@pytest.mark.parametrize("model", SMALL)
def test_the_real_size_has_the_recorded_bytes(seeded, model):
    kind = built(model, "seeded").parent.name
    assert run("sha256sum", "-c", "--quiet", f"checksums/{kind}/{model}.sha256").returncode == 0


# The record of places


def verified(tree: Path, sample: str) -> subprocess.CompletedProcess[str]:
    """What make places-verify says of toys whose stage compose has this code."""
    toy.plant(tree)
    run("git", "init", "--quiet", cwd=tree)
    (tree / "models/toy/compose.py").write_text(sample)
    run("make", "all", "WEIGHTS=tiny", cwd=tree)
    made("checksums", "WEIGHTS=tiny", cwd=tree)
    return run("make", "--no-print-directory", "places-verify", cwd=tree)


def test_models_that_are_the_same_in_two_places_are_put_on_record(tmp_path):
    done = verified(tmp_path, toy.SAMPLE)
    assert "toy: the same bytes in another place" in done.stdout, done.stdout + done.stderr
    recorded = tomllib.loads((tmp_path / "checksums/places.toml").read_text())
    assert len(recorded["toy"]) == len(recorded["echo"]) == 64


@pytest.mark.parametrize("read", ["os.getcwd()", "oct(os.umask(0))"])
def test_a_model_that_follows_its_place_is_not_put_on_record(tmp_path, read):
    """Its folder or its umask: the file that differs is named."""
    done = verified(tmp_path, f"import os\n\n\ndef composed(data):\n    return {read}.encode() + data\n")
    assert done.returncode == 2
    assert "expected the same bytes in another place, found others in compose/" in done.stderr, done.stderr
    record = tmp_path / "checksums/places.toml"
    assert not record.is_file() or "toy = " not in record.read_text()


def test_the_proof_of_a_place_is_of_all_that_decides_its_bytes(tiny, monkeypatch, tmp_path):
    tree = copy_tree(tmp_path)
    for stage in places.stages("harmonizer"):
        place = places.folder("harmonizer") / stage / "manifest.json"
        (tree / place).parent.mkdir(parents=True)
        shutil.copy(ROOT / place, tree / place)
    monkeypatch.setattr(places, "ROOT", tree)
    before = places.key("harmonizer")
    stages = [str(places.folder("harmonizer") / stage / "manifest.json") for stage in places.stages("harmonizer")]
    for name in (*stages, "scripts/in", "scripts/build.py", "scripts/places.py"):
        whole = (tree / name).read_text()
        (tree / name).write_text(whole.replace('"key": "', '"key": "0') if name in stages else whole + "\n")
        assert places.key("harmonizer") != before, name
        (tree / name).write_text(whole)
    assert places.key("harmonizer") == before
