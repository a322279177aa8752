"""make golden-verify puts on record what has passed, of all that decides whether it passes."""

import sys
import tomllib

import pytest

from scripts import manifest
from scripts.job import Refusal
from tests import proven
from tests.conftest import ROOT, copy_tree

PASSES = "def test_of_the_real_size():\n    assert True\n"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A tree in which VampNet's golden tests are one that passes."""
    tree = copy_tree(tmp_path / "tree")
    (tree / "tests/models/vampnet").mkdir(parents=True)
    (tree / "tests/models/vampnet/test_golden.py").write_text(PASSES)
    (tree / "tests/golden/vampnet").mkdir(parents=True)
    (tree / "tests/golden/vampnet/coarse.npz").write_bytes(b"numbers")
    (tree / "tests/proven.py").write_bytes((ROOT / "tests/proven.py").read_bytes())
    (tree / proven.RECORD).unlink(missing_ok=True)
    monkeypatch.setattr(proven, "ROOT", tree)
    monkeypatch.setattr(proven, "FULL", False)
    monkeypatch.setattr(sys, "argv", ["proven", "vampnet"])
    return tree


def test_what_passed_is_put_on_record_and_skipped(tree):
    proven.skip_where_proven("vampnet")
    assert proven.main() == 0
    assert tomllib.loads((tree / proven.RECORD).read_text())["vampnet"] == proven.key("vampnet")
    with pytest.raises(pytest.skip.Exception, match="FULL=1 does it anew"):
        proven.skip_where_proven("vampnet")


def test_what_passed_is_done_again_in_full(tree, monkeypatch):
    assert proven.main() == 0
    monkeypatch.setattr(proven, "FULL", True)
    proven.skip_where_proven("vampnet")


@pytest.mark.parametrize("test", [
    PASSES.replace("True", "False"), PASSES.replace("assert True", "import pytest; pytest.skip('NO DATA')"),
    PASSES.replace("real", "toy")], ids=["fails", "is skipped", "isn't there"])
def test_what_did_not_pass_is_not_put_on_record(tree, test):
    (tree / "tests/models/vampnet/test_golden.py").write_text(test)
    with pytest.raises(Refusal, match="vampnet: expected its golden weights to give the golden outputs"):
        proven.main()
    assert "vampnet" not in proven.recorded()


@pytest.mark.parametrize("model", proven.TESTS)
def test_every_model_has_a_key_of_its_own(model):
    assert [other for other in proven.TESTS if proven.key(other) == proven.key(model)] == [model]


@pytest.mark.parametrize("name", [
    "models/vampnet/components.py", "models/vampnet/seeded.py", "models/vampnet/recipe.toml", "scripts/graphs.py",
    "images/torch/requirements.lock", "tests/models/vampnet/test_golden.py", "tests/golden/vampnet/coarse.npz",
    "tests/proven.py"])
def test_the_proof_is_of_all_that_decides_it(tree, name):
    before = proven.key("vampnet")
    text = (tree / name).read_text()
    (tree / name).write_text(text.replace("version = 1", "version = 2") if name.endswith(".toml") else text + "\n")
    manifest.file_hash.cache_clear()
    assert proven.key("vampnet") != before
