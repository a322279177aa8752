"""Ranges that are the same on every CPU, and that quantize well."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from scripts import calibrate, quantize
from scripts.seeded import seeded_uniform
from tests.conftest import exact_session

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


SHAPES = st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(5, 13), st.integers(6, 9))
WINDOW = st.tuples(st.integers(1, 4), st.integers(1, 4))


@settings(max_examples=40)
@given(st.sampled_from(["Conv", "MaxPool", "AveragePool"]), SHAPES, WINDOW, WINDOW,
       st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"]), st.booleans())
def test_its_windows_are_the_runtimes(op, shape, kernel, strides, auto_pad, counted):
    """At every size, stride and padding that ONNX Runtime takes."""
    if auto_pad.startswith("SAME"):  # else it refuses, or begins with windows before the first number
        strides = tuple(map(min, strides, kernel))
    how = {"pads": [kernel[0] // 2, 0, 0, kernel[1] // 2]} if auto_pad == "NOTSET" else {"auto_pad": auto_pad}
    how |= {"count_include_pad": int(counted)} if op == "AveragePool" else {}
    weights = {"w": seeded_uniform("w", (2, shape[1], *kernel))} if op == "Conv" else {}
    node = helper.make_node(op, ["x", *weights], ["y"], kernel_shape=kernel, strides=strides, **how)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in ("x", "y")]
    model = helper.make_model(helper.make_graph([node], "g", ports[:1], ports[1:], [
        onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = seeded_uniform("x", shape)
    [expected] = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    operators = [calibrate.Conv, calibrate.MaxPool, calibrate.AveragePool]
    [found] = onnx.reference.ReferenceEvaluator(calibrate.in_float64(model), new_ops=operators).run(
        None, {"x": x.astype(np.float64)})
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", range(4))
@pytest.mark.parametrize("shape", [
    (8, 24, 16, 16), (8, 256, 8, 8), (3, 32, 128, 46), (64, 1024, 4, 1), (1, 1, 1, 70_000)])
def test_a_sample_prefers_no_row_column_or_channel(shape, axis):
    """Of each that has a thousand values or more, a share is in it that is no more than a third off."""
    places = np.broadcast_to(np.arange(shape[axis]).reshape([-1 if n == axis else 1 for n in range(4)]), shape)
    found = np.bincount(calibrate.sample(places), minlength=shape[axis]) / places.size * shape[axis]
    if places.size <= calibrate.WHOLE:
        assert (found == 1).all()
    elif places.size // shape[axis] >= 1000:
        assert (np.abs(found / found.mean() - 1) < 1 / 3).all()


@pytest.mark.parametrize("width", [8, 16, 64])
def test_a_range_is_not_cut_to_that_of_a_column(width):
    """Where the first column alone is small, as the padded border of a picture."""
    generator = np.random.default_rng(0)
    x = generator.uniform(0, 1, size=(4, 2, 3, width)).astype(np.float32)
    x[..., 0] *= 0.1
    model = helper.make_model(helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "g",
        *([helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2, "time", width])] for name in "xy"), []),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert calibrate.ranges(model, [{"x": x}], lambda line: None)["y"][1] > 0.9 * x.max()


def stored(tmp_path, nodes, weights):
    """The dtypes of what half_weights stores, by name."""
    onnx.save(graph(nodes, weights), tmp_path / "step.onnx")
    quantize.half_weights(None, "step", tmp_path / "step.onnx", tmp_path / "out.onnx")
    return {tensor.name: onnx.numpy_helper.to_array(tensor).dtype.name
            for tensor in onnx.load(tmp_path / "out.onnx").graph.initializer}


ADDED = [helper.make_node("Add", ["x", "w"], ["y"])]
MULTIPLIED = [helper.make_node("MatMul", ["x", "w"], ["y"])]


@pytest.mark.parametrize("nodes, array, dtype", [
    (MULTIPLIED, np.full((6, 6), 0.1), "float16"),  # a weight
    (MULTIPLIED, np.full((6, 6), 1e-9), "float16"),  # whose smallest numbers add nothing
    (MULTIPLIED, np.full((6, 6), 1e5), "float32"),  # but not one that is too large
    (ADDED, np.full((1, 1, 1, 6), 0.1), "float32"),  # a small array
    (ADDED, np.full(6, 1e-8), "float32"),  # an epsilon
    (ADDED, np.full((1, 2, 512, 6), 0.1), "float16"),  # a large one
    (ADDED, np.append(np.full(6143, 0.1), 1e-8).reshape(1, 2, 512, 6), "float32"),  # that mustn't become 0
    (ADDED, np.append(np.full(6143, 0.1), -1e9).reshape(1, 2, 512, 6), "float32"),  # nor infinite
    (ADDED, np.append(np.full(6143, 0.5), -np.inf).reshape(1, 2, 512, 6), "float16"),  # which this one is already
])
def test_what_float16_cannot_hold_stays_float32(tmp_path, nodes, array, dtype):
    found = stored(tmp_path, nodes, {"w": array.astype(np.float32)})
    assert found == {"w.half" if dtype == "float16" else "w": dtype}


def test_silence_stays_finite_in_fp16(tmp_path):
    """log(x * x + 1e-8) before a product, of exact zeros too."""
    nodes = [helper.make_node("Mul", ["x", "x"], ["power"]), helper.make_node("Add", ["power", "epsilon"], ["sum"]),
             helper.make_node("Log", ["sum"], ["log"]), helper.make_node("MatMul", ["log", "w"], ["y"])]
    weights = {"epsilon": np.array([1e-8], np.float32), "w": np.eye(6, dtype=np.float32)}
    assert stored(tmp_path, nodes, weights) == {"epsilon": "float32", "w.half": "float16"}
    [found] = exact_session(tmp_path / "out.onnx").run(None, {"x": np.zeros((1, 2, 3, 6), np.float32)})
    np.testing.assert_allclose(found, np.log(1e-8), rtol=1e-3)


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
