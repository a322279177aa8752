"""ROUTE=tfjs: an export by way of TensorFlow.js, held against the straight one."""

import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest

from scripts import job, recipe, verify
from tests.conftest import ROOT, made, run

HEAD = """
import sys
import numpy as np
import tensorflow.compat.v1 as tf
tf.disable_v2_behavior()
from pathlib import Path
from scripts import detour
from scripts.job import Refusal
def described(inputs, outputs):
    return {"inputs": [{"name": name} for name in inputs], "outputs": [{"name": name} for name in outputs]}
"""
# Two convolutions, the second's bias behind a sum, as grappler reorders it; ports out of alphabetical order.
NETWORK = HEAD + """
x, a = (tf.placeholder(tf.float32, [None, None, 5, 3], name) for name in "xa")
weights = np.random.RandomState(0).randn(3, 3, 3, 3).astype(np.float32)
bias = tf.constant(np.arange(3, dtype=np.float32))
first = tf.nn.relu(tf.nn.conv2d(x, weights, 1, "SAME") * 1.5 + bias)
tf.nn.relu(tf.nn.conv2d(first, weights, 1, "SAME") * 0.5 + bias + first, "z")
tf.identity(a - first, "b")
with tf.Session() as session:
    detour.write(session, described("xa", "zb"), {"opset": 17, "route": "tfjs"}, Path(sys.argv[1]))
"""


def by_legacy(code: str, *arguments, **environment: str) -> str:
    settings = [f"{name}={value}" for name, value in environment.items()]
    done = run("scripts/in", "legacy", "env", *settings, "python", "-c", code, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_detour_gives_the_same_ports_answers_and_bytes(tmp_path):
    """In whatever order sets are iterated, and wherever it is made."""
    for seed in ("1", "2"):
        place = tmp_path / ("somewhere" * int(seed))
        place.mkdir()
        by_legacy(NETWORK, place / "z.onnx", PYTHONHASHSEED=seed, TMPDIR=str(place))
        assert sorted(path.name for path in place.iterdir()) == ["z.direct.onnx", "z.onnx"]
    for name in ("z.onnx", "z.direct.onnx"):
        one, other = ((tmp_path / folder / name).read_bytes() for folder in ("somewhere", "somewheresomewhere"))
        assert one == other
    model, direct = (onnx.load(tmp_path / "somewhere" / name) for name in ("z.onnx", "z.direct.onnx"))
    assert [port.name for port in model.graph.input] == ["x", "a"]
    assert [port.name for port in model.graph.output] == ["z", "b"]
    assert [node.op_type for node in model.graph.node if node.op_type in ("Add", "Sum")] == ["Add"]
    assert [len(node.input) for node in model.graph.node if node.op_type == "Conv"] == [3, 3]  # biases are inside
    feed = {name: np.random.default_rng(1).standard_normal((2, 4, 5, 3), np.float32) for name in "xa"}
    answers = [onnxruntime.InferenceSession(one.SerializeToString()).run(None, feed) for one in (model, direct)]
    for found, expected in zip(*answers, strict=True):
        assert np.abs(found - expected).max() < 1e-5


def test_an_op_that_tensorflow_js_lacks_is_named():
    said = by_legacy(HEAD + """
x = tf.placeholder(tf.float32, [None, 3], "x")
cell = tf.raw_ops.LSTMBlockCell(x=x, cs_prev=x, h_prev=x, w=np.ones((6, 12), np.float32), wci=np.ones(3, np.float32),
    wcf=np.ones(3, np.float32), wco=np.ones(3, np.float32), b=np.ones(12, np.float32))
tf.identity(cell.h, "h")
with tf.Session() as session:
    try:
        detour.by_tfjs(session, ["x"], ["h"], 17)
    except Refusal as refusal:
        print(refusal)
""")
    assert said.splitlines()[-1].startswith("TensorFlow.js has no LSTMBlockCell: leave out ROUTE")


def test_coconet_takes_the_detour_into_a_folder_of_its_own(workshop):
    tree = workshop("coconet")
    before = {path: path.read_bytes() for path in (tree / "build/tiny/coconet").rglob("*.onnx")}
    said = made("coconet", "WEIGHTS=tiny", "ROUTE=tfjs", cwd=tree)
    assert "denoiser: by its detour" in said and "differs" not in said
    assert {path: path.read_bytes() for path in (tree / "build/tiny/coconet").rglob("*.onnx")} == before
    folder = tree / "build/tiny-tfjs/coconet"
    told = json.loads((folder / "verify/report.json").read_text())["detours"]
    assert told["denoiser"] >= verify.LEAST_BY_DETOUR
    assert "## denoiser, by way of tfjs" in (folder / "verify/report.md").read_text()
    assert "done in" not in made("coconet", "WEIGHTS=tiny", "ROUTE=tfjs", cwd=tree)
    assert "done in" not in made("coconet", "WEIGHTS=tiny", cwd=tree)
    labels = onnx.load(folder / "compose/coconet-denoiser-fp32.onnx").metadata_props
    assert {label.key: label.value for label in labels}["route"] == "tfjs"


def test_a_detour_that_leads_elsewhere_is_caught(tiny, tmp_path):
    built, told = ROOT / "build/tiny/coconet", recipe.read(ROOT, "coconet")
    shutil.copytree(built / "export", tmp_path / "export")
    other = onnx.load(built / "export/denoiser.onnx")
    weights = next(tensor for tensor in other.graph.initializer if len(tensor.dims) == 4)
    array = onnx.numpy_helper.to_array(weights) * np.float32(1.001)
    weights.CopyFrom(onnx.numpy_helper.from_array(array, weights.name))
    onnx.save(other, tmp_path / "export/denoiser.direct.onnx")
    inputs = {"compose": built / "compose", "export": tmp_path / "export"}
    task = job.Job("coconet", "tiny", dict(told, route="tfjs"), inputs, tmp_path, None)
    with pytest.raises(job.Refusal, match=r"denoiser: by its detour \d+ dB SNR against the straight export, must be"):
        verify.verify(task)


@pytest.mark.parametrize(("words", "said"), [
    (["groovae", "ROUTE=tfjs"], "groovae: expected a model that ROUTE=tfjs leads to"),
    (["coconetjs", "ROUTE=tfjs"], "coconetjs: expected a model that ROUTE=tfjs leads to"),
    (["coconet", "ROUTE=scenic"], "route: invalid choice: 'scenic' (choose from 'tfjs')"),
])
def test_a_route_that_leads_nowhere_is_one_sentence(words, said):
    done = run("make", "--no-print-directory", *words, "WEIGHTS=tiny")
    assert done.returncode == 2
    [error] = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert error.startswith(f"error: {said}")
