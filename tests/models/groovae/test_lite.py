"""The stage lite, and the gates that its artifacts meet: each with a defect planted."""

import json
import shutil

import numpy as np
import onnx
import pytest

from scripts import job, recipe, verify
from tests.conftest import ROOT, run
from tests.models.groovae.conftest import legacy

NAME = "groovae-groove-fp32.tflite"


@pytest.fixture
def task(cast, tmp_path):
    """A verify job over a copy of the tiny build's artifacts."""
    for stage in ("compose", "export", "lite"):
        shutil.copytree(cast.parent / stage, tmp_path / stage)
    (tmp_path / "verify").mkdir()
    return job.Job("groovae", "tiny", recipe.read(ROOT, "groovae"),
                   {stage: tmp_path / stage for stage in ("compose", "export", "lite")}, tmp_path / "verify", None)


def refused(task) -> str:
    with pytest.raises(job.Refusal) as refusal:
        verify.verify(task)
    return str(refusal.value)


def test_sound_artifacts_of_both_formats_pass_and_are_reported(task):
    verify.verify(task)
    report = json.loads((task.out / "report.json").read_text())
    shipped = [f"groovae-{component}-{variant}.{suffix}" for component, variant, suffix in verify.shipped(task.recipe)]
    assert [artifact["file"] for artifact in report["artifacts"]] == shipped and NAME in shipped
    assert all(artifact["gates"] for artifact in report["artifacts"])


def test_an_artifact_that_the_interpreter_did_not_run_is_caught(task):
    path = task.inputs["compose"] / NAME
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert refused(task).startswith(f"{NAME}: ")


@pytest.mark.parametrize(("change", "said"), [
    (lambda drums: drums + 1e-5, "snr_db of drums: 9"),
    (lambda drums: np.where(np.arange(27) < 1, 1 - drums, drums), "decision_mismatches of drums"),
    (lambda drums: drums[:, :-1], "expected finite values of shape"),
    (lambda drums: drums * np.nan, "of them not finite"),
])
def test_answers_beside_the_originals_are_caught(task, change, said):
    path = task.inputs["lite"] / "answers.npz"
    answers = dict(np.load(path))
    np.savez(path, **{name: change(array).astype(np.float32) if name.startswith("groove-fp32/drawn") else array
                      for name, array in answers.items()})
    message = refused(task)
    assert message.startswith(NAME) and said in message


def test_coarser_weights_are_caught(task):
    path = task.inputs["compose"] / "groovae-groove-int8.onnx"
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype == np.int8:
            tensor.CopyFrom(onnx.numpy_helper.from_array((array // 64 * 64).astype(np.int8), tensor.name))
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].t.data_type == onnx.TensorProto.INT8:
            array = onnx.numpy_helper.to_array(node.attribute[0].t)
            node.attribute[0].t.CopyFrom(onnx.numpy_helper.from_array((array // 64 * 64).astype(np.int8)))
    onnx.save(model, path)
    assert "groovae-groove-int8.onnx: snr_db of drums, drawn" in refused(task)


def test_a_changed_weight_changes_the_answers(cast, tmp_path):
    """So the interpreter reads this file's weights; the gate on its answers is above."""
    model = bytearray((cast / NAME).read_bytes())
    arrays = np.load(cast.parent / "export/reference.npz")
    feed = {port: arrays[f"groove/alone/{port}"] for port in ("taps", "eps", "uniforms", "temperature")}
    np.savez(tmp_path / "feed.npz", **feed)
    for number in range(len(model) // 4, len(model) // 2, 64):
        model[number] ^= 1 << 6
    (tmp_path / "changed.tflite").write_bytes(model)
    for path, answer in ((cast / NAME, "sound.npz"), (tmp_path / "changed.tflite", "changed.npz")):
        legacy("interpret.py", path, tmp_path / "feed.npz", tmp_path / answer)
    sound, changed = (np.load(tmp_path / name)["drums"] for name in ("sound.npz", "changed.npz"))
    assert verify.compare(arrays["groove/alone/drums"], sound)["max_error"] <= 5e-6
    assert not np.nan_to_num(np.abs(changed - sound), nan=1).max() <= 5e-6


FOREIGN = """
import tensorflow.compat.v1 as tf
tf.disable_v2_behavior()
from scripts import job, lite
with tf.Session() as session:
    x = tf.placeholder(tf.float32, [2, 2], "x")
    try: lite.convert(session, [x], [tf.identity(tf.linalg.inv(tf.lgamma(x)), "y")], "none")
    except job.Refusal as refusal: print(refusal)
"""


def test_an_operator_that_tensorflow_lite_lacks_is_named():
    told = run("scripts/in", "legacy", "python", "-c", FOREIGN).stdout
    assert told.startswith("no builtin operator of TensorFlow Lite for ")
    assert "Lgamma" in told and "MatrixInverse" in told


def test_lite_variants_of_another_component_or_method_are_flaws_of_a_recipe(tmp_path):
    text = (ROOT / "models/groovae/recipe.toml").read_text()
    (tmp_path / "models/groovae").mkdir(parents=True)
    shutil.copytree(ROOT / "images", tmp_path / "images")
    for old, new, said in (('components = ["groove"]', 'components = ["grove"]', "'grove' is none of the components"),
                           ('method = "dynamic-range"', 'method = "magic"', "unknown method 'magic'"),
                           ('format = "tflite"', 'format = "tflight"', "unknown format 'tflight'"),
                           ("decisions = 9", "decisions = 28", "28 aren't among the last axis"),
                           ('checkpoint = "tensorflow"', "", "needs files or checkpoint, one of them"),
                           ('checkpoint = "tensorflow"', 'checkpoint = "pickle"', "unknown kind 'pickle'")):
        (tmp_path / "models/groovae/recipe.toml").write_text(text.replace(old, new, 1))
        with pytest.raises(job.Refusal, match=said):
            recipe.read(tmp_path, "groovae")


def test_an_operator_of_a_domain_that_the_variant_does_not_name_is_caught(task):
    folder = task.inputs["compose"]
    shutil.copy(folder / "groovae-encoder-int8.onnx", folder / "groovae-encoder-fp16.onnx")
    assert "groovae-encoder-fp16.onnx: expected standard ONNX of opset 17 alone" in refused(task)
