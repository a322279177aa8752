"""What the methods that only store weights otherwise do to them."""

import numpy as np
import onnx
import pytest
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

from scripts import quantize
from scripts.job import Refusal
from scripts.seeded import seeded_uniform
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
    (quantize.byte_weights, "MatMul or Conv"), (quantize.dynamic_columns, "MatMul")])
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
