"""On Bach's held-out chorales: better than counts and rules by the bound, and int8 as good as fp32."""

import json
import re

import pytest

from models.harmonizer import evaluate
from models.harmonizer.dataset import read
from tests.conftest import ROOT, exact_session, run

RULES = ("most frequent", "most frequent in the key", "rule")
STRONGEST = "most frequent over the note in the key"
RECORD = ROOT / "models/harmonizer/source/training.json"


@pytest.fixture(scope="module")
def splits(golden):
    return read(golden / "data/Jsb16thSeparated.npz")


@pytest.fixture(scope="module")
def tables(bundled, splits):
    """What was measured, by variant."""
    told = {}
    for variant in ("fp32", "int8"):
        session = exact_session(bundled / f"harmonizer-chords-{variant}.onnx")
        told[variant] = evaluate.table(
            lambda melody, session=session: session.run(["logits"], {"melody": melody[None]})[0][0], splits)
    return told


def test_the_splits_are_the_data_sets_own(splits):
    assert [len(splits[split]) for split in ("train", "valid", "test")] == [229, 76, 77]


def test_the_model_is_ten_points_above_counts_and_the_rule(tables):
    model = tables["fp32"]["model"]
    for name in RULES:
        assert model["top3"] >= tables["fp32"][name]["top3"] + 0.10, name
        assert model["top1"] > tables["fp32"][name]["top1"], name


def test_the_model_is_above_the_strongest_count_too(tables):
    model, count = tables["fp32"]["model"], tables["fp32"][STRONGEST]
    assert model["top3"] >= count["top3"] + 0.07 and model["top1"] >= count["top1"] + 0.07


def test_eight_bits_lose_a_point_at_most(tables):
    for share in ("top1", "top3"):
        assert tables["int8"]["model"][share] >= tables["fp32"]["model"][share] - 0.01


def test_the_record_of_the_training_says_what_the_artifact_does(tables):
    """Within what another CPU's last bits may change."""
    told = json.loads(RECORD.read_text())["test"]
    assert told.keys() == tables["fp32"].keys()
    for name, share in told.items():
        assert share == pytest.approx(tables["fp32"][name], abs=0.001)


def test_the_card_has_the_figures(tables):
    card = (ROOT / "models/harmonizer/README.md").read_text()
    told = {name: (float(one), float(three)) for name, one, three in
            re.findall(r"^\| ([\w, ]+) \| ([\d.]+) % \| ([\d.]+) % \|$", card, re.MULTILINE)}
    expected = dict(tables["fp32"], **{"model, int8": tables["int8"]["model"]})
    assert told.keys() == expected.keys()
    for name, share in expected.items():
        assert told[name] == pytest.approx((100 * share["top1"], 100 * share["top3"]), abs=0.11), name


def test_anyone_can_measure_an_artifact(bundled, golden):
    done = run("scripts/in", "torch", "python", "-m", "models.harmonizer.evaluate",
               golden / "data/Jsb16thSeparated.npz", bundled / "harmonizer-chords-int8.onnx")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\| rule \| 4\d\.\d% \| 7\d\.\d% \|$", done.stdout, re.MULTILINE)
    assert re.search(r"^\| model \|", done.stdout, re.MULTILINE)
