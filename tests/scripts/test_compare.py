"""A rebuild against a release: equal, or every difference by name, and an exit status that says so."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import pytest

from scripts.compare import model_of
from tests.conftest import copy_tree, run

BUILT = {"coconet": ("coconet-denoiser-fp32.onnx", "coconet-denoiser-int8.onnx"),
         "groovae": ("groovae-groove-int8.tflite",),
         "vampnet": ("vampnet-coarse-fp32.onnx", "vampnet-coarse-fp32.weights")}


class Rebuild(NamedTuple):
    """A tree with finished builds, and the sums of a release that is equal to them."""
    tree: Path
    sums: Path

    def artifact(self, name: str) -> Path:
        return self.tree / "build/released" / name.split("-")[0] / "compose" / name

    def compare(self, **said: str) -> tuple[int, list[str], list[str]]:
        """The exit status of `make compare`, and the lines that it said and complained of."""
        told = {"RELEASE": str(self.sums.parent), "WEIGHTS": "released", **said}
        done = run("bash", "-c", 'exec "$(scripts/python 3.11)" -m scripts.compare --weights "$WEIGHTS" -- "$RELEASE"',
                   cwd=self.tree, **told)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()

    @property
    def report(self) -> Path:
        return self.tree / "build/compare.md"


@pytest.fixture
def rebuild(tmp_path) -> Rebuild:
    made = Rebuild(copy_tree(tmp_path / "tree"), tmp_path / "release/SHA256SUMS")
    lines = [f"{'0' * 64}  {name}" for name in ("coconet.md", "coconet-denoiser.npz", "manifest.json", "try_it.py")]
    for model, names in BUILT.items():
        for name in names:
            made.artifact(name).parent.mkdir(parents=True, exist_ok=True)
            made.artifact(name).write_bytes(name.encode())
            lines.append(f"{hashlib.sha256(name.encode()).hexdigest()}  {name}")
        (made.tree / f"build/released/{model}/compose/manifest.json").write_text("{}")
    made.sums.parent.mkdir()
    made.sums.write_text("\n".join(lines) + "\n")
    return made


def test_an_equal_rebuild_is_said_in_a_sentence(rebuild):
    status, said, complained = rebuild.compare()
    assert (status, complained) == (0, [])
    assert said == ["5 artifacts of coconet, groovae, vampnet are equal to the release's, byte by byte"]
    assert not rebuild.report.exists()


def test_a_model_that_was_not_built_is_not_compared(rebuild):
    (rebuild.tree / "build/released/coconet/compose/manifest.json").unlink()
    status, said, _ = rebuild.compare()
    assert (status, said) == (0, ["3 artifacts of groovae, vampnet are equal to the release's, byte by byte"])


@pytest.mark.parametrize("name", [name for names in BUILT.values() for name in names])
def test_a_flipped_byte_is_found(rebuild, name):
    rebuild.artifact(name).write_bytes(name.upper().encode())
    expected, found = (hashlib.sha256(text.encode()).hexdigest() for text in (name, name.upper()))
    status, said, complained = rebuild.compare()
    assert (status, said) == (2, [])
    assert complained == [f"error: {name}: expected SHA-256 {expected}, as the release has it, found {found}"]
    assert f"- {name}: expected SHA-256 {expected}" in rebuild.report.read_text()


def test_what_is_missing_and_what_is_extra_are_found(rebuild):
    rebuild.artifact("vampnet-coarse-fp32.weights").unlink()
    rebuild.artifact("coconet-denoiser-fp16.onnx").write_bytes(b"extra")
    rebuild.sums.write_text(rebuild.sums.read_text() + f"{'0' * 64}  bell-tower-fp32.onnx\n")
    status, _, complained = rebuild.compare()
    assert status == 2
    assert complained == ["error: bell-tower-fp32.onnx: the release has it, and no recipe here makes it",
                          "error: coconet-denoiser-fp16.onnx: it was built, and the release doesn't have it",
                          "error: vampnet-coarse-fp32.weights: the release has it, and it was not built"]
    assert rebuild.report.read_text().count("\n- ") == 3


def test_a_report_of_another_day_is_not_kept(rebuild):
    rebuild.report.write_text("- coconet-denoiser-fp32.onnx")
    assert rebuild.compare()[0] == 0
    assert not rebuild.report.exists()


@pytest.mark.parametrize(("said", "complaint"), [
    ({"RELEASE": "/nowhere"}, "RELEASE=/nowhere: expected a release's SHA256SUMS in it, found none"),
    ({"RELEASE": ""}, "RELEASE=.: expected a release's SHA256SUMS in it, found none"),
    ({"WEIGHTS": "tiny"}, "build/tiny: expected a finished build to compare, found none: run make all WEIGHTS=tiny"),
], ids=["folder", "nothing", "build"])
def test_what_lacks_is_named_and_is_no_difference(rebuild, said, complaint):
    status, _, (line,) = rebuild.compare(**said)
    assert status == 2 and complaint in line
    assert not rebuild.report.exists()


def test_a_damaged_line_is_named(rebuild):
    rebuild.sums.write_text(rebuild.sums.read_text().replace("\n", "\n<html>\n", 1))
    status, _, (line,) = rebuild.compare()
    assert status == 2 and "SHA256SUMS:2: expected a SHA-256, two spaces and a name, found '<html>'" in line


def test_a_models_name_may_begin_anothers():
    assert model_of("mt3-encoder-fp32.onnx", ["mt3", "mt3-small"]) == "mt3"
    assert model_of("mt3-small-encoder-fp32.onnx", ["mt3", "mt3-small"]) == "mt3-small"
    assert model_of("mt4-encoder-fp32.onnx", ["mt3", "mt3-small"]) == ""
