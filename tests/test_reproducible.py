"""Same inputs, same bytes: wherever, whenever and by whomever it is built."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from scripts import recipe
from scripts.build import NAMES
from tests.conftest import ROOT, SMALL, built, copy_tree, made, run

EVIDENCE = {"reference.npz", "answers.npz", "report.json", "report.md", "timing.json"}
# What the numerical libraries take as: use no newer instructions than these.
OLD_PROCESSOR = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "DNNL_MAX_CPU_ISA": "SSE41",
                 "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "OPENBLAS_CORETYPE": "Nehalem"}


def hashes(build: Path) -> dict[str, str]:
    """Every reproducible file of a build's stages, manifests too, by its path."""
    return {str(path.relative_to(build)): hashlib.sha256(path.read_bytes()).hexdigest()
            for stage in NAMES for path in sorted((build / stage).rglob("*"))
            if path.is_file() and path.name not in EVIDENCE}


def test_two_places_give_equal_bytes(tiny, tmp_path):
    """Another folder with a space in its name, hash seed, threads, time zone, locale, umask, processor and clock."""
    tree = copy_tree(tmp_path / "an other place")
    (tree / "build").mkdir()
    core = min(os.sched_getaffinity(0))
    done = run(
        "bash", "-c", f"umask 077 && taskset -c {core} make all WEIGHTS=tiny", cwd=tree, PYTHONHASHSEED="7",
        OMP_NUM_THREADS="1", TZ="Asia/Kathmandu", LC_ALL="C", LANG="tr_TR.UTF-8",
        SOURCE_DATE_EPOCH="1", **OLD_PROCESSOR)
    assert done.returncode == 0, done.stdout + done.stderr
    for model in recipe.models(ROOT):
        here = built(model, "tiny")
        there = hashes(tree / here.relative_to(ROOT))
        assert len(there) >= 15
        assert there == hashes(here)


@pytest.mark.parametrize("model", SMALL)
def test_the_real_size_has_the_recorded_bytes(seeded, model):
    kind = built(model, "seeded").parent.name
    assert run("sha256sum", "-c", "--quiet", f"checksums/{kind}/{model}.sha256").returncode == 0


def test_real_size_calibration_does_not_follow_threads_or_processor(seeded, tmp_path):
    """The stage whose bytes rest on measured activations, again on one thread without the CPU's vector units."""
    tree = copy_tree(tmp_path / "tree")
    for stage in ("fetch", "export", "optimize"):
        shutil.copytree(ROOT / "build/seeded/coconet" / stage, tree / "build/seeded/coconet" / stage)
    made("quantize", "MODELS=coconet", cwd=tree, OMP_NUM_THREADS="1", **OLD_PROCESSOR)
    assert hashes(tree / "build/seeded/coconet/quantize") == hashes(ROOT / "build/seeded/coconet/quantize")
