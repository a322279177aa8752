"""What optimize rewrites computes the same."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts import optimize
from scripts.seeded import seeded_uniform

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
