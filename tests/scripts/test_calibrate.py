"""Ranges that are the same on every CPU, and that quantize well."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from scripts import calibrate, job, quantize

numbers = st.floats(min_value=1e-6, max_value=1e6)


@given(numbers, st.sampled_from([-1, 1]))
def test_the_grid_moves_a_bound_outwards_and_not_far(bound, sign):
    (snapped,) = calibrate.on_grid([sign * bound])
    assert bound <= abs(snapped) <= bound * (1 + 2.0 ** (1 - calibrate.GRID_BITS))
    assert np.sign(snapped) == sign


@given(numbers)
def test_the_grid_swallows_the_noise_of_float64(bound):
    """Only a bound within the noise of a grid point could move; from a grid point none is drawn here."""
    (snapped,) = calibrate.on_grid([bound])
    if bound < snapped * (1 - 1e-12):
        assert calibrate.on_grid([bound * (1 - 1e-14)]) == calibrate.on_grid([bound * (1 + 1e-14)])


def test_the_tails_of_a_bell_are_cut_off():
    values = np.random.default_rng(0).normal(size=100_000)
    low, high = calibrate.best_cut(values, values.min(), values.max())
    assert values.min() < low < -3 and 3 < high < values.max()


def test_a_flat_distribution_is_not_cut():
    values = np.linspace(0, 1, 100_000)
    assert calibrate.best_cut(values, 0.0, 1.0) == (0.0, 1.0)


def graph(nodes, weights):
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2, "time", 6]) for name in ("x", "y")]
    return helper.make_model(helper.make_graph(nodes, "g", ports[:1], ports[1:], [
        onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_its_convolution_is_the_reference_convolution():
    generator = np.random.default_rng(0)
    weights = {"w": generator.normal(size=(2, 2, 3, 2)).astype(np.float32), "b": np.ones(2, np.float32)}
    model = graph([helper.make_node("Conv", ["x", "w", "b"], ["y"], "c", pads=[2, 0, 2, 1], dilations=[2, 1])], weights)
    feed = {"x": generator.normal(size=(1, 2, 5, 6)).astype(np.float32)}
    (expected,) = onnx.reference.ReferenceEvaluator(model).run(None, feed)
    ranges = calibrate.ranges(model, [feed], lambda line: None)
    (found,) = onnx.reference.ReferenceEvaluator(model, new_ops=[calibrate.Conv]).run(None, feed)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert set(ranges) == {"x", "y"}


def test_weights_too_large_for_float16_are_refused(tmp_path):
    onnx.save(graph([helper.make_node("Add", ["x", "w"], ["y"])], {"w": np.full((1, 1, 1, 6), 1e5, np.float32)}),
              tmp_path / "step.onnx")
    with pytest.raises(job.Refusal, match="w holds 100000, more than float16 can"):
        quantize.half_weights(None, "step", tmp_path / "step.onnx", tmp_path / "out.onnx")


def test_the_result_stays_in_float(tiny):
    """int8 ends before the last convolution, which sets the resolution of the logits."""
    model = onnx.load(tiny / "coconet-denoiser-int8.onnx")
    producers = {output: node for node in model.graph.node for output in node.output}
    last = producers["logits"]
    while last.op_type != "Conv":
        last = producers[last.input[0]]
    assert producers.get(last.input[1]) is None


def test_every_other_convolution_runs_in_int8(tiny):
    model = onnx.load(tiny / "coconet-denoiser-int8.onnx")
    quantized = [node for node in model.graph.node if node.op_type == "Conv"
                 and any(node.input[1] == other.output[0] for other in model.graph.node
                         if other.op_type == "DequantizeLinear")]
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(quantized) == len(convolutions) - 1
