"""What optimize rewrites computes the same."""

from itertools import product

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array
from onnxscript import rewriter
from onnxscript.rewriter.rules.common import slice_split_rule

from scripts import calibrate, graphs, optimize
from scripts.job import Refusal
from scripts.seeded import seeded_uniform
from tests.conftest import run

BOOLEANS = st.booleans()


def dense(transposed: bool, bias: bool, turned: bool = False, alpha: float = 1.0) -> onnx.ModelProto:
    """y = alpha · x · w + b as a Gemm: 5 wide in, 3 wide out."""
    weights = {"w": seeded_uniform("w", (3, 5) if transposed else (5, 3)), "b": seeded_uniform("b", (3,))}
    node = onnx.helper.make_node("Gemm", ["x", "w", *["b"] * bias], ["y"], "dense", alpha=alpha, transA=int(turned),
                                 transB=int(transposed))
    ports = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", None]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "dense", ports[:1], ports[1:], [
        onnx.numpy_helper.from_array(array, name) for name, array in weights.items() if name != "b" or bias])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def answers(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def model_of(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], shape: list[str | int],
             outputs: tuple[str, ...] = ("y",)) -> onnx.ModelProto:
    """A model of an input x of this shape, its outputs of the same rank, at opset 17."""
    ports = [make_tensor_value_info(name, TensorProto.FLOAT, shape if name == "x" else [None] * len(shape))
             for name in ("x", *outputs)]
    return make_model(make_graph(nodes, "g", ports[:1], ports[1:], [
        from_array(array, name) for name, array in weights.items()]),
        opset_imports=[make_opsetid("", 17)], ir_version=8)


def optimized(model: onnx.ModelProto, folder) -> onnx.ModelProto:
    """What the stage makes of a model, which must be valid before and after."""
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, folder / "model.onnx")
    described = {kind: [{"name": port.name, "dtype": "float32", "shape": [
        axis.dim_param or axis.dim_value or f"{port.name}{number}"
        for number, axis in enumerate(port.type.tensor_type.shape.dim)]} for port in ports]
        for kind, ports in (("inputs", model.graph.input), ("outputs", model.graph.output))}
    found = optimize.optimized("model", folder / "model.onnx", described)
    onnx.checker.check_model(found, full_check=True)
    return found


@given(BOOLEANS, BOOLEANS, st.integers(1, 9))
def test_a_gemm_of_weights_becomes_a_product_and_a_sum(transposed, bias, batch):
    model, x = dense(transposed, bias), seeded_uniform("x", (batch, 5))
    expected = answers(model, x)
    optimize.write_products(model.graph)
    assert [node.op_type for node in model.graph.node] == ["MatMul", "Add"][:1 + bias]
    onnx.checker.check_model(model, full_check=True)
    assert np.abs(answers(model, x) - expected).max() < 1e-6
    assert [list(tensor.dims) for tensor in model.graph.initializer if len(tensor.dims) == 2] == [[5, 3]]


@pytest.mark.parametrize("how", [{"turned": True}, {"alpha": 0.5}])
def test_another_gemm_is_left_alone(how):
    model = dense(False, True, **how)
    before = model.SerializeToString()
    optimize.write_products(model.graph)
    assert model.SerializeToString() == before


def gate() -> onnx.ModelProto:
    """tanh(x[..., :8]) * sigmoid(x[..., 8:16]), each half cut where it is needed."""
    return model_of(
        [make_node("Slice", ["x", "half", "whole", "last"], ["b"]), make_node("Sigmoid", ["b"], ["heard"]),
         make_node("Slice", ["x", "zero", "half", "last"], ["a"]), make_node("Tanh", ["a"], ["told"]),
         make_node("Mul", ["told", "heard"], ["y"])],
        {name: np.array([number]) for name, number in (("zero", 0), ("half", 8), ("whole", 16), ("last", -1))},
        ["batch", "time", 16])


@pytest.mark.parametrize(("op", "number", "kept"), [
    ("Add", 1e-10, True), ("Sub", 1e-9, True), ("Mul", 1.000005, True), ("Div", 0.999995, True),
    ("Add", 0, False), ("Mul", 1, False)])
def test_an_epsilon_is_no_zero_and_what_is_nearly_1_is_not_1(op, number, kept):
    ports = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n"]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node(op, ["x", "number"], ["y"])], "graph", ports[:1], ports[1:],
                                   [onnx.numpy_helper.from_array(np.float32(number), "number")])
    told = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    assert [node.op_type for node in graphs.shrunk(told).graph.node] == [op if kept else "Identity"]


def test_halves_by_slices_stay_what_they_are(tmp_path):
    x = seeded_uniform("x", (2, 3, 16))
    found = optimized(gate(), tmp_path)
    assert [node.op_type for node in found.graph.node].count("Slice") == 2
    assert (answers(found, x) == answers(gate(), x)).all()


def test_a_graph_that_the_optimizer_breaks_goes_without_it(tmp_path, monkeypatch, capsys):
    """The rule that is left out makes a Split of opset 18 of the halves, behind a node that reads it."""
    graphs.mend_rules()
    monkeypatch.setattr(rewriter, "_DEFAULT_REWRITE_RULES", (*rewriter._DEFAULT_REWRITE_RULES, slice_split_rule))
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(graphs.shrunk(gate()), full_check=True)
    x = seeded_uniform("x", (2, 3, 16))
    assert (answers(optimized(gate(), tmp_path), x) == answers(gate(), x)).all()
    assert "model: goes without onnxscript's optimizer, which breaks it (" in capsys.readouterr().out


def test_a_graph_that_was_broken_before_is_one_sentence(tmp_path):
    model = gate()
    model.graph.node.insert(0, model.graph.node.pop())
    onnx.save(model, tmp_path / "model.onnx")
    ports = {kind: [{"name": name, "dtype": "float32", "shape": ["batch", "time", 16]}]
             for kind, name in (("inputs", "x"), ("outputs", "y"))}
    with pytest.raises(Refusal, match=r"one that onnx\.checker refuses .*told.*: correct what .*export\.py") as told:
        optimize.optimized("model", tmp_path / "model.onnx", ports)
    assert "\n" not in str(told.value)


SIZES, KERNELS, STRIDES, DILATIONS = (1, 2, 3, 7, 12, 13), (1, 2, 5), (1, 2, 3, 4), (1, 2)
TENSORFLOW = f"""
import sys
import numpy as np, tensorflow as tf
from itertools import product
from scripts.seeded import seeded_uniform
told = dict()
for size, width, stride in product({SIZES}, {KERNELS}, {STRIDES}):
    x, w = seeded_uniform("x", (2, 3, size)).transpose(0, 2, 1), seeded_uniform("w", (4, 3, width)).transpose(2, 1, 0)
    how = "%s %s %s" % (size, width, stride)
    for dilation in {DILATIONS}:
        wide = tf.nn.conv2d(x[:, :, None], w[:, None], [stride, 1], "SAME", dilations=[dilation, 1])
        told["Conv %s %s" % (how, dilation)] = wide[:, :, 0].numpy().transpose(0, 2, 1)
    told["MaxPool " + how + " 1"] = tf.nn.max_pool1d(x, width, stride, "SAME").numpy().transpose(0, 2, 1)
    told["AveragePool " + how + " 1"] = tf.nn.avg_pool1d(x, width, stride, "SAME").numpy().transpose(0, 2, 1)
np.savez(sys.argv[1], **told)
"""


@pytest.fixture(scope="module")
def tensorflow(tmp_path_factory):
    """What TensorFlow answers with padding SAME, by op, size, kernel, stride and dilation."""
    path = tmp_path_factory.mktemp("same") / "told.npz"
    done = run("scripts/in", "legacy", "python", "-c", TENSORFLOW, path)
    assert done.returncode == 0, done.stderr
    return dict(np.load(path))


@pytest.mark.parametrize("op", ["Conv", "MaxPool", "AveragePool"])
@pytest.mark.parametrize("stride", STRIDES)
def test_same_padding_is_tensorflows_at_every_size(tensorflow, tmp_path, op, stride):
    for width, dilation in product(KERNELS, DILATIONS if op == "Conv" else (1,)):
        how = {"dilations": [dilation]} if op == "Conv" else {}
        node = make_node(op, ["x", *["w"] * (op == "Conv")], ["y"], auto_pad="SAME_UPPER", kernel_shape=[width],
                         strides=[stride], **how)
        weights = {"w": seeded_uniform("w", (4, 3, width))} if op == "Conv" else {}
        found = optimized(model_of([node], weights, ["batch", 3, "time"]), tmp_path)
        left = 1 < stride <= width and dilation == 1
        assert ("auto_pad" in str(found.graph.node)) == left
        for size in SIZES:
            expected, x = tensorflow[f"{op} {size} {width} {stride} {dilation}"], seeded_uniform("x", (2, 3, size))
            np.testing.assert_allclose(answers(found, x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("stride", "dilation"), [(2, 2), (2, 3), (3, 2)])
@pytest.mark.parametrize("width", [2, 3, 5])
def test_the_largest_numbers_of_dilated_windows_are_never_padding(tmp_path, stride, dilation, width):
    """TensorFlow has no such windows with strides: ONNX's text is the judge, in NumPy."""
    node = make_node("MaxPool", ["x"], ["y"], auto_pad="SAME_UPPER", kernel_shape=[width], strides=[stride],
                     dilations=[dilation])
    found = optimized(model_of([node], {}, ["batch", 3, "time"]), tmp_path)
    for size in SIZES:
        x, reach = seeded_uniform("x", (2, 3, size)) - np.float32(2), (width - 1) * dilation  # x is below 0
        lacking = max(0, (-(-size // stride) - 1) * stride + reach + 1 - size)
        sides = [(0, 0), (0, 0), (lacking // 2, lacking - lacking // 2)]
        padded = np.pad(x, sides, constant_values=-np.inf)
        expected = [padded[..., start:start + reach + 1:dilation].max(-1) for start in range(0, size, stride)]
        np.testing.assert_array_equal(answers(found, x), np.stack(expected, -1))


def test_padding_of_the_largest_numbers_spoils_no_other_range(tmp_path):
    node = make_node("MaxPool", ["x"], ["y"], auto_pad="SAME_UPPER", kernel_shape=[3], strides=[2], dilations=[2])
    found = optimized(model_of([node], {}, ["batch", 3, "time"]), tmp_path)
    ranges = calibrate.ranges(found, [{"x": seeded_uniform("x", (2, 3, 9))}], lambda line: None)
    assert [name for name, bounds in ranges.items() if not np.isfinite(bounds).all()] == [
        name for made in found.graph.node if made.op_type in ("Constant", "Pad") for name in made.output
        if name in ranges]
    assert max(map(abs, ranges["y"])) <= 1.1


def test_a_dilated_convolution_of_a_known_size_keeps_its_padding(tmp_path):
    """onnxscript writes out the padding, too, but for a filter that isn't dilated."""
    node = make_node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER", kernel_shape=[3], dilations=[4])
    model = model_of([node], {"w": seeded_uniform("w", (4, 3, 3))}, ["batch", 3, 20])
    assert answers(optimized(model, tmp_path), np.zeros((1, 3, 20), np.float32)).shape == (1, 4, 20)


@given(st.integers(1, 9), st.sampled_from([0.5, 1, 1.5, 2, 3, 2.75]))
def test_the_nearest_number_is_the_same_by_a_name_that_opset_17_knows(size, scale):
    node = make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest", nearest_mode="floor",
                     coordinate_transformation_mode="tf_half_pixel_for_nn")
    model = model_of([node], {"scales": np.array([1, 1, scale], np.float32)}, [1, 1, None])
    x = np.arange(size, dtype=np.float32).reshape(1, 1, size)
    expected = answers(model, x) if int(size * scale) else None
    optimize.write_resizes(model.graph)
    assert b"tf_half_pixel_for_nn" not in model.SerializeToString()
    assert expected is None or (answers(model, x) == expected).all()


def loop(handed: tuple[str, str], cut: bool = False) -> onnx.ModelProto:
    """x, times: h = tanh(h · w + v), 3 times, where the weights w and v are handed on; y is the last h, z the last w.

    handed: what becomes of w and of v at a turn. cut: the product is with rows of w, taken anew at every turn.
    """
    def port(name, kind=TensorProto.FLOAT, shape=None):
        return make_tensor_value_info(name, kind, shape)

    matrix = "rows" if cut else "w_in"
    body = make_graph(
        [*[make_node("Slice", ["w_in", "from", "to"], ["rows"])] * cut,
         make_node("MatMul", ["h_in", matrix], ["p"]), make_node("Add", ["p", "v_in"], ["s"]),
         make_node("Tanh", ["s"], ["h_out"]), make_node("Identity", ["going"], ["going_out"]),
         make_node("Identity", [handed[0]], ["w_mid"]), make_node("Identity", ["w_mid"], ["w_out"]),
         make_node("Identity", [handed[1]], ["v_out"])],
        "body",
        [port("turn", TensorProto.INT64, []), port("going", TensorProto.BOOL, []), port("h_in"), port("w_in"),
         port("v_in")],
        [port("going_out", TensorProto.BOOL, []), port("h_out"), port("w_out"), port("v_out")],
        [from_array(np.array([number]), name) for name, number in (("from", 0), ("to", 4))] if cut else [])
    weights = {"w": seeded_uniform("w", (6 if cut else 4, 4)), "v": seeded_uniform("v", (4, 4)),
               "turns": np.array(3), "go": np.array(True)}
    turning = make_node("Loop", ["turns", "go", "x", "w", "v"], ["y", "z", "unread"], "loop", body=body)
    return model_of([turning], weights, [4, 4], ("y", "z"))


@pytest.mark.parametrize("cut", [False, True])
def test_what_a_loop_only_hands_on_is_read_from_outside(tmp_path, cut):
    model, x = loop(("w_in", "v_in"), cut), seeded_uniform("x", (4, 4))
    found = optimized(model, tmp_path)
    [kept] = [node for node in found.graph.node if node.op_type == "Loop"]
    [product] = [node for node in kept.attribute[0].g.node if node.op_type == "MatMul"]
    shapes = {tensor.name: list(tensor.dims) for tensor in found.graph.initializer}
    assert len(kept.input) == 3 and len(kept.output) == 1 and shapes[product.input[1]] == [4, 4]
    assert "Slice" not in [node.op_type for node in kept.attribute[0].g.node]
    for one, other in zip(*(onnxruntime.InferenceSession(each.SerializeToString()).run(None, {"x": x})
                            for each in (model, found))):
        np.testing.assert_allclose(other, one, rtol=1e-6)


def test_what_changes_from_turn_to_turn_stays_in_the_loop(tmp_path):
    """w and v change places."""
    model, x = loop(("v_in", "w_in")), seeded_uniform("x", (4, 4))
    found = optimized(model, tmp_path)
    [kept] = [node for node in found.graph.node if node.op_type == "Loop"]
    assert len(kept.input) == 5
    assert np.abs(answers(found, x) - answers(model, x)).max() < 1e-6
    assert np.abs(answers(model, x) - answers(loop(("w_in", "v_in")), x)).max() > 1e-2


def test_bodies_are_rewritten_too(tmp_path):
    """A dense layer and a convolution in a loop, and a dense layer outside of it."""
    ports = [make_tensor_value_info(name, TensorProto.INT64 if name == "turn" else TensorProto.BOOL, [])
             for name in ("turn", "going", "going_out")]
    wide = [make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 5]) for name in ("h", "h_out")]
    body = make_graph(
        [make_node("Gemm", ["h", "w", "b"], ["d"], transB=1), make_node("Unsqueeze", ["d", "one"], ["u"]),
         make_node("Conv", ["u", "filter"], ["c"], auto_pad="SAME_UPPER", kernel_shape=[3]),
         make_node("Squeeze", ["c", "one"], ["h_out"]), make_node("Identity", ["going"], ["going_out"])],
        "body", [*ports[:2], wide[0]], [ports[2], wide[1]])
    model = model_of(
        [make_node("Loop", ["turns", "go", "x"], ["last"], "loop", body=body), make_node("Gemm", ["last", "w"], ["y"])],
        {"w": seeded_uniform("w", (5, 5)), "b": seeded_uniform("b", (5,)), "filter": seeded_uniform("f", (1, 1, 3)),
         "one": np.array([1]), "turns": np.array(3), "go": np.array(True)}, ["rows", 5])
    x = seeded_uniform("x", (4, 5))
    found = optimized(model, tmp_path)
    ops = [node.op_type for graph in (found.graph, *graphs.inner_graphs(found.graph)) for node in graph.node]
    assert "Gemm" not in ops and ops.count("MatMul") == 2 and b"auto_pad" not in found.SerializeToString()
    np.testing.assert_allclose(answers(found, x), answers(model, x), rtol=1e-5, atol=1e-6)
