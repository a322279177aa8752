"""Each network ends in artifacts that answer as its framework does, or in a sentence, as docs/supported.md tells."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import FULL, ROOT
from tests.networks import cases, cast, page, processes

NAMES = [name for framework in cast.FRAMEWORKS for name in cases.names(framework)]
# Of every outcome one, and what takes little time.
QUICK = ["tf_dense", "tf_strided_same", "tf_loop", "tf_foreign", "tf_rewritten", "tf_text", "tf_words", "tf_python",
         "tf_xlogy", "tf_spectrum", "torch_chain", "torch_branch", "torch_where", "torch_logarithm", "flax_normed"]
REST = "ON RECORD in docs/supported.md: the other small networks; FULL=1 casts them, too"
Found = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(scope="module")
def found(folder: Path) -> Found:
    """What became of the networks, by name."""
    return {one["name"]: one for one in page.outcomes(folder, NAMES if FULL else QUICK)}


@pytest.fixture(scope="module")
def told() -> dict[str, str]:
    return page.rows((ROOT / page.PAGE).read_text())


@pytest.mark.parametrize("name", NAMES)
def test_what_becomes_of_a_network_is_what_the_page_says(name, found, told):
    if name not in found:
        pytest.skip(REST)
    assert page.held(told[name], found[name]), page.row(found[name])


def test_the_page_has_every_network_once(told):
    assert set(told) == set(NAMES) and all(line.count("\n") == 1 for line in told.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_network_converts_to_its_frameworks_numbers_or_what_is_said_to_do_works(name, found):
    if name not in found:
        pytest.skip(REST)
    one = found[name]
    assert one["kind"] in ("equal", "refused"), one
    if one["kind"] == "refused":
        assert "Traceback" not in one["said"] and found[one["then"]]["kind"] == "equal", one


def test_an_answer_that_is_not_the_frameworks_is_noticed(folder, found):
    """The same artifacts, and a framework that answers one number otherwise."""
    place = folder / "tree/build/networks/pytorch/torch_chain"
    network = {"name": "torch_chain", "path": str(place / "weights.pth")}
    compose = folder / "tree/build/bundled/torch_chain/compose"
    assert {name: snr for name, (snr, _) in cast.measured(compose, network)} == found["torch_chain"]["snr_db"]
    shutil.copy(place / "answers.npz", place / "kept.npz")
    arrays = dict(np.load(place / "answers.npz"))
    arrays["1/y"][-1, -1] += 0.01 * np.abs(arrays["1/y"]).max()
    np.savez(place / "answers.npz", **arrays)
    assert dict(cast.measured(compose, network))["fp32"][0] < cast.LEAST["fp32"]
    shutil.move(place / "kept.npz", place / "answers.npz")


@pytest.mark.parametrize(("expected", "answer", "least", "most"), [
    ([1.0, -2.0], [1.0, -2.0], 200, 200),
    ([1.0, -2.0], [1.0, -2.0002], 80, 90),
    ([0.0, 0.0], [0.0, 0.0], 200, 200),
    ([0.0, 0.0], [0.0, 1e-9], -200, -200),
    ([1.0, -np.inf], [1.0, -np.inf], 200, 200),
    ([1.0, -np.inf], [1.0, np.nan], -200, -200),
    ([1.0, -23.0], [1.0, -np.inf], -200, -200),
    ([1.0, 2.0], [1.0], -200, -200),
])
def test_decibels_are_of_what_is_finite_and_what_is_not_has_to_be_the_same(expected, answer, least, most):
    assert least <= cast.decibels(np.array(expected, np.float32), np.array(answer, np.float32)) <= most


def test_whole_numbers_are_equal_or_not():
    assert cast.decibels(np.arange(9), np.arange(9)) == 200
    assert cast.decibels(np.arange(9), np.arange(9) + (np.arange(9) == 8)) == -200


CONVERTED = {"name": "net", "shows": "layers", "kind": "equal", "snr_db": {"fp32": 140.2, "fp16": 71.6, "int8": 41}}
REFUSED = {"name": "net", "shows": "a text", "kind": "refused", "where": "make new", "said": "no: do a|b",
           "did": "done", "then": "other"}


@pytest.mark.parametrize(("one", "changed"), [
    (CONVERTED, {"snr_db": {"fp32": 140.2, "fp16": 71.6, "int8": 31}}),
    (CONVERTED, {"snr_db": {"fp32": 91, "fp16": 71.6, "int8": 41}}),
    (CONVERTED, {"kind": "wrong"}),
    (CONVERTED, {"shows": "others"}),
    (REFUSED, {"said": "no: do c"}),
    (REFUSED, {"kind": "fails"}),
    (REFUSED, {"where": "export"}),
    (REFUSED, {"then": "net"}),
])
def test_a_page_that_tells_another_outcome_is_noticed(one, changed):
    assert page.held(page.row(one), one) and not page.held(page.row(one), {**one, **changed})


def test_figures_of_another_processor_are_no_other_outcome():
    other = {"snr_db": {"fp32": 136.9, "fp16": 71.4, "int8": 42.3}}
    assert page.held(page.row(CONVERTED), {**CONVERTED, **other})


@pytest.mark.parametrize(("words", "told", "status", "said"), [
    (["tokenize"], "7", 0, "1,0-1,1:            NUMBER         '7'"),
    (["tokenize"], "(", 1, "EOF in multi-line statement"),
    (["timeit", "-n1", "-r1", "import os; os.kill(os.getpid(), 9)"], "", -9, ""),
])
def test_a_command_of_a_process_ends_as_one_of_its_own(monkeypatch, words, told, status, said):
    """Twice, as it is replaced where it ended with the command."""
    monkeypatch.chdir(ROOT)
    try:
        for _ in range(2):
            ended, output, errors = processes.asked(["scripts/in", "player", "python", "-m", *words], told)
            assert ended == status and said in output + errors
    finally:
        processes.close()
