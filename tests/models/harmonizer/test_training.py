"""`make train`: the same data and seed give the same weights; what can't be trained on is refused."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from scripts.seeded import seeded_unit
from tests.conftest import run

WROTE = ("harmonizer.h5", "training.json")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three chorales in each split, of chords drawn from a fixed stream."""
    path = tmp_path_factory.mktemp("data") / "d.npz"
    held = np.empty(3, object)
    for number in range(3):
        roots = 3 * (4 * seeded_unit(f"harmonizer/test/{number}", (40, 1))).astype(int)
        held[number] = np.repeat(np.array([[64, 60, 55, 48]]) + roots, 4, axis=0).astype(np.float16)
    np.savez(path, train=held, valid=held, test=held)
    return path


def train(data, out):
    return run("scripts/in", "legacy", "python", "-m", "models.harmonizer.train", "--data", data, "--out", out,
               "--epochs", "1")


def test_two_runs_give_the_same_bytes_and_a_finished_file(data, tmp_path):
    with ThreadPoolExecutor() as both:
        said = list(both.map(lambda name: train(data, tmp_path / name), ("one", "other")))
    assert all(done.returncode == 0 for done in said), said[0].stderr
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes() for name in WROTE)
    told = json.loads((tmp_path / "one/training.json").read_text())
    assert told["epochs"] == 1 and told["parameters"] < 700_000 and {"rule", "model"} <= told["test"].keys()
    assert "epoch   1: loss" in said[0].stdout and "top-3" in said[0].stdout


def test_make_passes_on_a_refusal_in_a_sentence(tmp_path):
    done = run("make", "train", "MODEL=harmonizer", f"DATA={tmp_path}/none.npz", f"OUT={tmp_path}/out")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: DATA={tmp_path}/none.npz: expected a file, found none: give Jsb16th")
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()


def test_make_names_the_models_that_train_here():
    done = run("make", "train", "MODEL=coconet", "DATA=any.npz")
    assert done.returncode == 2 and "MODEL=coconet: expected one that trains here: harmonizer" in done.stderr
