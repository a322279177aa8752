"""The weights are read array by array; what is wrong with them is named."""

import json

import pytest

from tests.conftest import ROOT, run

SOURCE = ROOT / "models/harmonizer/source/harmonizer.h5"
KERNEL = "attention/attention/query_kernel:0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("defects")


@pytest.fixture(scope="module")
def told(folder):
    done = run("scripts/in", "legacy", "python", "tests/models/harmonizer/defects.py", SOURCE, folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("damage", "said"), [
    ("missing", f"missing {KERNEL}"), ("extra", "unexpected chords/chords/second_bias:0"),
    ("shape", f"{KERNEL} is float32 [64, 128], expected float32 [128, 64]"),
    ("nan", f"{KERNEL} holds values that are not finite"), ("type", f"{KERNEL} is float64"),
    ("link", f"missing {KERNEL}"), ("cut", "can't be read"),
])
def test_a_damaged_file_is_refused_in_a_sentence_that_names_the_array(told, damage, said):
    assert said in told[damage] and "\n" not in told[damage]


def test_the_bundled_file_and_one_of_keras_own_are_taken(told):
    assert told["itself"] == told["keras"] == ""


def test_equal_arrays_give_equal_bytes(told, folder):
    assert (folder / "again.h5").read_bytes() == SOURCE.read_bytes()


def test_the_weights_are_as_small_as_they_may_be():
    assert SOURCE.stat().st_size <= 3_000_000
