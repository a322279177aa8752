"""What the methods do to weights, whoever reads them."""

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

from scripts import graphs, quantize
from scripts.job import Job, Refusal
from scripts.seeded import seeded_uniform
from scripts.verify import compare, numbers
from tests.conftest import exact_session


@pytest.fixture
def product(tmp_path):
    """x [rows, 6] times a matrix with a column of zeros and one a thousand times the others, plus a row."""
    matrix = seeded_uniform("quantize", (6, 5))
    matrix[:, 1] = 0
    matrix[:, 3] *= 1000
    graph = make_graph(
        [make_node("MatMul", ["x", "matrix"], ["product"]), make_node("Add", ["product", "row"], ["y"])], "product",
        [make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["rows", 6])],
        [make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["rows", 5])],
        [onnx.numpy_helper.from_array(matrix, "matrix"), onnx.numpy_helper.from_array(np.ones(5, np.float32), "row")])
    onnx.save(make_model(graph, opset_imports=[make_opsetid("", 17)], ir_version=8), tmp_path / "product.onnx")
    return tmp_path / "product.onnx", matrix


def test_byte_weights_are_within_half_a_step_of_their_column(product, tmp_path):
    path, matrix = product
    quantize.byte_weights(None, "product", path, tmp_path / "bytes.onnx")
    onnx.checker.check_model(tmp_path / "bytes.onnx", full_check=True)
    found = exact_session(tmp_path / "bytes.onnx").run(None, {"x": np.eye(6, dtype=np.float32)})[0] - 1
    assert (np.abs(found - matrix) <= np.abs(matrix).max(axis=0) / 254 + 1e-4).all()
    assert not found[:, 1].any()


def test_byte_weights_store_matrices_of_products_alone(product, tmp_path):
    quantize.byte_weights(None, "product", product[0], tmp_path / "bytes.onnx")
    stored = {tensor.name: tensor.data_type for tensor in onnx.load(tmp_path / "bytes.onnx").graph.initializer}
    assert stored == {"matrix.byte": onnx.TensorProto.INT8, "matrix.scale": onnx.TensorProto.FLOAT,
                      "row": onnx.TensorProto.FLOAT}


def test_byte_weights_of_a_convolution_have_a_scale_a_filter(tmp_path):
    weights = seeded_uniform("filters", (3, 2, 2, 2)) * np.array([1, 100, 0], np.float32).reshape(3, 1, 1, 1)
    ports = [make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, None, None, None]) for name in "xy"]
    onnx.save(make_model(make_graph([make_node("Conv", ["x", "filters"], ["y"])], "g", ports[:1], ports[1:], [
        onnx.numpy_helper.from_array(weights, "filters")]), opset_imports=[make_opsetid("", 17)], ir_version=8),
        tmp_path / "conv.onnx")
    quantize.byte_weights(None, "conv", tmp_path / "conv.onnx", tmp_path / "bytes.onnx")
    model = onnx.load(tmp_path / "bytes.onnx")
    onnx.checker.check_model(model, full_check=True)
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert stored["filters.byte"].dtype == np.int8 and stored["filters.scale"].shape == (3, 1, 1, 1)
    found = stored["filters.byte"] * stored["filters.scale"]
    assert (np.abs(found - weights) <= stored["filters.scale"] / 2 * 1.0001).all() and (found[2] == 0).all()


@pytest.mark.parametrize(("group", "method"), [(1, "static-qdq"), (2, "byte-weights")])
def test_a_variant_has_a_method_of_its_own_for_depthwise_convolutions(tmp_path, group, method):
    ports = [make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 2, None, None]) for name in "xy"]
    weights = onnx.numpy_helper.from_array(np.ones((2, 2 // group, 1, 1), np.float32), "weights")
    node = make_node("Conv", ["x", "weights"], ["y"], group=group)
    onnx.save(make_model(make_graph([node], "g", ports[:1], ports[1:], [weights])), tmp_path / "conv.onnx")
    how = {"method": "static-qdq", "depthwise": "byte-weights"}
    assert quantize.method_of(how, "conv", tmp_path / "conv.onnx") == method
    assert quantize.method_of({"method": "static-qdq"}, "conv", tmp_path / "conv.onnx") == "static-qdq"


def test_dynamic_columns_multiply_in_8_bits_within_a_step_of_each_factor(product, tmp_path):
    path, matrix = product
    quantize.dynamic_columns(None, "product", path, tmp_path / "columns.onnx")
    onnx.checker.check_model(tmp_path / "columns.onnx", full_check=True)
    x = seeded_uniform("columns", (50, 6))
    found = exact_session(tmp_path / "columns.onnx").run(None, {"x": x})[0] - 1
    steps = (x.max() - min(x.min(), 0)) / 255, np.abs(matrix).max(axis=0) / 127
    bound = 6 * (steps[0] * np.abs(matrix).max(axis=0) / 2 + steps[1] * np.abs(x).max() / 2)
    assert (np.abs(found - x @ matrix) <= bound + 1e-4).all()
    assert np.abs(found - x @ matrix).max() > 1e-4  # it does round


def test_dynamic_columns_round_what_products_share_once(product, tmp_path):
    model = onnx.load(product[0])
    model.graph.node.append(make_node("MatMul", ["x", "other"], ["z"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((6, 5), np.float32), "other"))
    model.graph.output.append(make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["rows", 5]))
    onnx.save(model, product[0])
    quantize.dynamic_columns(None, "product", product[0], tmp_path / "columns.onnx")
    nodes = [node.op_type for node in onnx.load(tmp_path / "columns.onnx").graph.node]
    assert nodes.count("DynamicQuantizeLinear") == 1 and nodes.count("MatMulInteger") == 2


@pytest.mark.parametrize(("method", "ops"), [
    (quantize.byte_weights, "MatMul, Conv, LSTM, GRU or RNN"), (quantize.dynamic_columns, "MatMul, LSTM, GRU or RNN"),
    (quantize.dynamic_blocks, "MatMul, LSTM, GRU or RNN")])
def test_a_method_that_finds_nothing_to_store_is_an_error(product, tmp_path, method, ops):
    """An artifact that is called int8 and holds float32 is none."""
    path, _ = product
    model = onnx.load(path)
    model.graph.node[0].op_type, model.graph.node[0].input[1] = "Add", "row"
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 5
    onnx.save(model, path)
    with pytest.raises(Refusal, match=f"expected {ops} with weights to store in 8 bits, found none"):
        method(None, "product", path, tmp_path / "bytes.onnx")
    assert not (tmp_path / "bytes.onnx").exists()


METHODS = [quantize.byte_weights, quantize.dynamic_columns, quantize.dynamic_blocks]


def quantized(method, model: onnx.ModelProto, folder) -> onnx.ModelProto:
    """What a method makes of a model of float32 ports, which onnx.checker must take."""
    onnx.save(model, folder / "model.onnx")
    described = {kind: [{"name": port.name, "dtype": "float32", "shape": [
        axis.dim_param or axis.dim_value for axis in port.type.tensor_type.shape.dim]} for port in ports]
        for kind, ports in (("inputs", model.graph.input), ("outputs", model.graph.output))}
    recipe = {"components": {"model": {"stage": "export", **described}}}
    method(Job("any", "any", recipe, {}, folder, None), "model", folder / "model.onnx", folder / "out.onnx")
    onnx.checker.check_model(folder / "out.onnx", full_check=True)
    return onnx.load(folder / "out.onnx")


def snr(folder, x: np.ndarray) -> float:
    """The signal to error of what a method made of a model, in dB, the least of all outputs that aren't empty."""
    whole, small = (exact_session(folder / name).run(None, {"x": x}) for name in ("model.onnx", "out.onnx"))
    return min(compare(one, other)["snr_db"] for one, other in zip(whole, small) if one.size)


def stored(model: onnx.ModelProto, source: str) -> list[int]:
    """The dtypes of what a model holds of a weight."""
    return sorted(tensor.data_type for tensor in graphs.arrays(model)
                  if tensor.name.startswith(source) and "scale" not in tensor.name)


def floats(name: str, *shape) -> onnx.ValueInfoProto:
    return make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def codebook() -> onnx.ModelProto:
    """softmax(x) · codebook, and the code of the largest x: one matrix, read by a product and looked up."""
    return make_model(make_graph(
        [make_node("Softmax", ["x"], ["shares"]), make_node("MatMul", ["shares", "codebook"], ["soft"]),
         make_node("ArgMax", ["x"], ["best"], axis=-1, keepdims=0),
         make_node("Gather", ["codebook", "best"], ["hard"])],
        "g", [floats("x", "rows", 24)], [floats("soft", "rows", 32), floats("hard", "rows", 32)],
        [onnx.numpy_helper.from_array(seeded_uniform("codebook", (24, 32)), "codebook")]),
        opset_imports=[make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("method", METHODS)
def test_a_matrix_that_is_looked_up_too_is_stored_once_and_widened_for_that(tmp_path, method):
    small = quantized(method, codebook(), tmp_path)
    assert stored(small, "codebook") == [onnx.TensorProto.INT8]
    assert snr(tmp_path, seeded_uniform("x", (9, 24)) * 4) > 35
    assert [node.op_type for node in small.graph.node].count("MatMulInteger") == (method is quantize.dynamic_columns)


def twice() -> onnx.ModelProto:
    """tanh(x · w) · w: one matrix, read by two products, as steps of a cell that are written out are."""
    return make_model(make_graph(
        [make_node("MatMul", ["x", "w"], ["p"]), make_node("Tanh", ["p"], ["h"]),
         make_node("MatMul", ["h", "w"], ["y"])],
        "g", [floats("x", "rows", 48)], [floats("y", "rows", 48)],
        [onnx.numpy_helper.from_array(seeded_uniform("w", (48, 48)) / 6, "w")]),
        opset_imports=[make_opsetid("", 17)], ir_version=8)


def test_a_matrix_of_several_products_is_stored_once_and_widened_for_exact_sums(tmp_path):
    """ONNX Runtime's rewriting for these fails on products that share one."""
    small = quantized(quantize.dynamic_columns, twice(), tmp_path)
    assert stored(small, "w") == [onnx.TensorProto.INT8]
    assert "MatMulInteger" not in [node.op_type for node in small.graph.node]
    assert snr(tmp_path, seeded_uniform("x", (9, 48)) * 4) > 35


def test_norms_and_shared_filters_stay_in_float32_where_activations_are_in_8_bits(tmp_path, monkeypatch):
    told = make_model(make_graph(
        [make_node("Conv", ["x", "one"], ["a"], "first", pads=[1, 1]),
         make_node("Conv", ["a", "w"], ["b"], "again", pads=[1, 1]),
         make_node("InstanceNormalization", ["b", "scale", "bias"], ["c"], "norm"),
         make_node("Conv", ["c", "w"], ["d"], "last", pads=[1, 1]), make_node("Conv", ["d", "two"], ["y"], "end")],
        "g", [floats("x", "batch", 8, "time")], [floats("y", "batch", 8, "time")],
        [onnx.numpy_helper.from_array(array, name) for name, array in (
            *((name, seeded_uniform(name, (8, 8, 3)) / 3) for name in ("one", "w")),
            ("two", seeded_uniform("two", (8, 8, 1))), ("scale", np.ones(8, np.float32)),
            ("bias", np.zeros(8, np.float32)))]), opset_imports=[make_opsetid("", 17)], ir_version=8)
    batches = [{"x": seeded_uniform(f"x {number}", (2, 8, 30))} for number in range(3)]
    monkeypatch.setattr(Job, "module", lambda *_: SimpleNamespace(calibration=lambda _: batches))
    small = quantized(quantize.static_qdq, told, tmp_path)
    wide = {node.name for node in small.graph.node if {*node.input} & {"one", "w", "scale", "two"}}
    assert wide == {"again", "norm", "last", "end"}
    assert snr(tmp_path, batches[0]["x"]) > 25


def turning() -> onnx.ModelProto:
    """h = tanh(h · w), 4 times, by a loop whose body reads w of the graph around it; and x · w once outside of it."""
    ports = [make_tensor_value_info(name, onnx.TensorProto.INT64 if name == "turn" else onnx.TensorProto.BOOL, [])
             for name in ("turn", "going", "going_out")]
    body = make_graph([make_node("MatMul", ["h", "w"], ["p"]), make_node("Tanh", ["p"], ["h_out"]),
                       make_node("Identity", ["going"], ["going_out"])], "body", [*ports[:2], floats("h", "rows", 96)],
                      [ports[2], floats("h_out", "rows", 96)])
    return make_model(make_graph(
        [make_node("Loop", ["turns", "go", "x"], ["last"], "loop", body=body),
         make_node("MatMul", ["x", "w"], ["first"])], "g", [floats("x", "rows", 96)],
        [floats("last", "rows", 96), floats("first", "rows", 96)],
        [onnx.numpy_helper.from_array(array, name) for name, array in (
            ("turns", np.array(4)), ("go", np.array(True)), ("w", seeded_uniform("w", (96, 96)) / 6))]),
        opset_imports=[make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("method", METHODS)
def test_a_matrix_that_a_loop_reads_is_in_8_bits_there_too(tmp_path, method):
    small = quantized(method, turning(), tmp_path)
    assert len(stored(small, "w")) == 1 and onnx.TensorProto.FLOAT not in stored(small, "w")
    assert numbers(small) < 0.4 * numbers(turning())
    assert snr(tmp_path, seeded_uniform("x", (9, 96))) > 30
    multiplied = {quantize.byte_weights: ["MatMul", "MatMul"], quantize.dynamic_columns: ["MatMulInteger", "MatMul"],
                  quantize.dynamic_blocks: ["MatMulNBits", "MatMulNBits"]}[method]
    assert [node.op_type for graph in (small.graph, *graphs.inner_graphs(small.graph)) for node in graph.node
            if node.op_type.startswith("MatMul")] == multiplied


def recurrence(op: str) -> onnx.ModelProto:
    """A recurrence of 96 over 40 numbers, and a product behind it."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    weights = {"w": (1, gates * 96, 40), "r": (1, gates * 96, 96), "b": (1, 2 * gates * 96), "head": (96, 32)}
    return make_model(make_graph(
        [make_node(op, ["x", "w", "r", "b"], ["h"], "cell", hidden_size=96), make_node("Squeeze", ["h", "one"], ["s"]),
         make_node("MatMul", ["s", "head"], ["y"])], "g", [floats("x", "time", 2, 40)], [floats("y", "time", 2, 32)],
        [onnx.numpy_helper.from_array(np.array([1]), "one"),
         *(onnx.numpy_helper.from_array(seeded_uniform(name, shape) / 8, name) for name, shape in weights.items())]),
        opset_imports=[make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_the_weights_of_a_recurrence_are_in_8_bits(tmp_path, method, op):
    model = recurrence(op)
    small = quantized(method, model, tmp_path)
    assert numbers(small) < 0.32 * numbers(model) and snr(tmp_path, seeded_uniform("x", (7, 2, 40))) > 30
    assert quantize.left_wide(tmp_path / "out.onnx") == ""


def test_what_stays_in_float32_is_said(tmp_path):
    model = codebook()
    model.graph.initializer.append(onnx.numpy_helper.from_array(seeded_uniform("table", (24, 64)), "table"))
    model.graph.node.append(make_node("Gather", ["table", "best"], ["other"]))
    model.graph.output.append(floats("other", "rows", 64))
    quantized(quantize.dynamic_columns, model, tmp_path)
    assert quantize.left_wide(tmp_path / "out.onnx") == "holds 87% of its weights in float32, those of Gather"


def test_a_matrix_of_few_rows_does_not_become_larger_in_blocks(tmp_path):
    model = make_model(make_graph([make_node("MatMul", ["x", "w"], ["y"])], "g", [floats("x", "rows", 8)], [
        floats("y", "rows", 64)], [onnx.numpy_helper.from_array(seeded_uniform("w", (8, 64)), "w")]),
        opset_imports=[make_opsetid("", 17)], ir_version=8)
    small = quantized(quantize.dynamic_blocks, model, tmp_path)
    assert numbers(small) < 0.4 * numbers(model) and snr(tmp_path, seeded_uniform("x", (5, 8))) > 30


@pytest.mark.parametrize("method", [quantize.half_weights, *METHODS])
def test_an_empty_array_is_no_weight(tmp_path, method):
    """As the region of a Resize is."""
    model = make_model(make_graph(
        [make_node("Resize", ["x", "region", "scales"], ["wide"], mode="nearest"),
         make_node("MatMul", ["wide", "w"], ["y"]), make_node("MatMul", ["none", "w"], ["nothing"])], "g",
        [floats("x", 4, 16)], [floats("y", 8, 32), floats("nothing", 0, 32)],
        [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in (
            ("region", np.zeros(0)), ("scales", np.array([2, 2])), ("w", seeded_uniform("w", (32, 32))),
            ("none", np.zeros((0, 32))))]), opset_imports=[make_opsetid("", 17)], ir_version=8)
    small = quantized(method, model, tmp_path)
    assert {tensor.name: list(tensor.dims) for tensor in small.graph.initializer}["region"] == [0]
    assert snr(tmp_path, seeded_uniform("x", (4, 16))) > 30
