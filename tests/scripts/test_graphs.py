"""Weights that lie beside a graph: the same model, in two files, of which the second can be shared."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

from scripts import graphs, job, optimize, recipe
from scripts.seeded import seeded_uniform
from tests.conftest import ROOT

X = seeded_uniform("x", (3, 64))


@pytest.fixture
def model():
    """x [rows, 64] times a large matrix, plus a small row."""
    graph = make_graph(
        [make_node("MatMul", ["x", "matrix"], ["product"]), make_node("Add", ["product", "row"], ["y"])], "product",
        [make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["rows", 64])],
        [make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["rows", 32])],
        [onnx.numpy_helper.from_array(seeded_uniform("matrix", (64, 32)), "matrix"),
         onnx.numpy_helper.from_array(np.ones(32, np.float32), "row")])
    return make_model(graph, opset_imports=[make_opsetid("", 20)], ir_version=10)


def answer(path):
    return onnxruntime.InferenceSession(path).run(None, {"x": X})[0]


def test_a_model_beside_whose_graph_its_weights_lie_answers_the_same(model, tmp_path):
    graphs.save(model, tmp_path / "whole.onnx")
    graphs.save(model, tmp_path / "two.onnx", beside=True)
    onnx.checker.check_model(tmp_path / "two.onnx", full_check=True)
    assert (tmp_path / "two.weights").stat().st_size == 64 * 32 * 4
    assert (tmp_path / "two.onnx").stat().st_size < 1000
    np.testing.assert_array_equal(answer(tmp_path / "whole.onnx"), answer(tmp_path / "two.onnx"))


def test_it_is_loaded_with_its_weights_or_without(model, tmp_path):
    whole = model.SerializeToString(deterministic=True)
    graphs.save(model, tmp_path / "two.onnx", beside=True)
    assert graphs.load(tmp_path / "two.onnx").SerializeToString(deterministic=True) == whole
    bare = graphs.load(tmp_path / "two.onnx", weights=False)
    assert graphs.beside(bare) == "two.weights" and bare.ByteSize() < 1000


def test_small_arrays_stay_in_the_graph(model, tmp_path):
    graphs.save(model, tmp_path / "two.onnx", beside=True)
    stored = {tensor.name: len(tensor.raw_data) for tensor in onnx.load(
        tmp_path / "two.onnx", load_external_data=False).graph.initializer}
    assert stored == {"matrix": 0, "row": 128}


def test_weights_that_are_handed_on_take_no_room(model, tmp_path):
    graphs.save(model, tmp_path / "first.onnx", beside=True)
    graphs.hand_on(graphs.load(tmp_path / "first.onnx", weights=False), tmp_path / "first.onnx", tmp_path / "next.onnx")
    assert (tmp_path / "next.weights").samefile(tmp_path / "first.weights")
    np.testing.assert_array_equal(answer(tmp_path / "first.onnx"), answer(tmp_path / "next.onnx"))
    assert graphs.load(tmp_path / "next.onnx").graph.initializer[0].raw_data


def test_a_model_without_any_is_handed_on_alone(model, tmp_path):
    graphs.save(model, tmp_path / "first.onnx")
    graphs.hand_on(graphs.load(tmp_path / "first.onnx", weights=False), tmp_path / "first.onnx", tmp_path / "next.onnx")
    assert (tmp_path / "next.onnx").read_bytes() == (tmp_path / "first.onnx").read_bytes()
    assert not (tmp_path / "next.weights").exists()


def test_a_stage_can_run_again_where_its_source_is_linked(model, tmp_path):
    """As after a change of the stage: onnx and its tools refuse to read a file with several names."""
    graphs.save(model, tmp_path / "first.onnx", beside=True)
    for name in ("next.onnx", "again.onnx"):
        bare, whole = graphs.load(tmp_path / "first.onnx", weights=False), graphs.load(tmp_path / "first.onnx")
        graphs.refer(whole, bare)
        assert whole == bare
        graphs.hand_on(whole, tmp_path / "first.onnx", tmp_path / name)
        assert (tmp_path / name).with_suffix(".weights").samefile(tmp_path / "first.weights")


def test_the_stage_optimize_runs_again(tiny, tmp_path):
    """On a finished build, whose weights are linked from stage to stage; and hands the same bytes on."""
    folder = tiny.parents[1] / "vampnet"
    task = job.Job("vampnet", "tiny", recipe.read(ROOT, "vampnet"), {"export": folder / "export"}, tmp_path, None)
    optimize.optimize(task)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (folder / "optimize" / path.name).read_bytes()
