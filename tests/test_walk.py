"""docs/your-own-model.md does what it says: its blocks are run in their order, from nothing to a verified int8."""

import json
import re

import pytest

from tests.conftest import ROOT, copy_tree, run

TEXT = (ROOT / "docs/your-own-model.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```(?:\n```text\n(.*?)```)?", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """The tree after the walk, and each block with what it printed and what the guide says it prints."""
    tree = copy_tree(tmp_path_factory.mktemp("walk") / "tree")
    steps = []
    for block, said in BLOCKS:
        done = run("bash", "-c", f"exec 2>&1\n{block}", cwd=tree)
        assert (done.returncode == 0) == ("error: " not in said), f"{block}\n{done.stdout}"
        steps.append((block, done.stdout, said.splitlines()))
    return tree, steps


def test_every_block_answers_what_the_guide_says(walked):
    """Line by line, in their order; a table's columns are as wide as they like."""
    for block, printed, said in walked[1]:
        rest = re.sub(r" {2,}", "  ", printed)
        for line in said:
            assert line in rest, f"{block}\nexpected {line!r} in\n{rest}"
            rest = rest[rest.index(line):]


def test_it_ends_with_an_int8_that_passed_its_gates(walked):
    artifacts = json.loads((walked[0] / "build/bundled/keys/verify/report.json").read_text())["artifacts"]
    [int8] = [one for one in artifacts if one["variant"] == "int8"]
    [fp32] = [one for one in artifacts if one["variant"] == "fp32"]
    assert int8["bytes"] < 0.3 * fp32["bytes"] and all(gate["passed"] for gate in int8["gates"])
    assert fp32["measured"][0]["snr_db"] > 100


def test_a_wrong_text_for_the_op_misses_its_gate(walked):
    """The length without its root is another number, and the gate of fp32 says which."""
    path = walked[0] / "models/keys/recipe.toml"
    path.write_text(path.read_text().replace("Sqrt(sum)", "Identity(sum)"))
    done = run("make", "keys", cwd=walked[0])
    assert done.returncode and "keys-model-fp32.onnx: snr_db of keys: " in done.stderr
