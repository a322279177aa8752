"""Operators of a model's own run in ONNX Runtime by their kernels, and a kernel that fails is named."""

import sys
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from scripts import kernels, player
from scripts.job import Refusal
from tests.conftest import exact_session


@pytest.fixture
def model(tmp_path, monkeypatch, request):
    """A session of a graph with one operator; each test has a domain of its own, as kernels stay known."""
    def made(kernel, dtype="float32"):
        domain = f"tests.{request.node.name.partition('[')[0]}"
        node = helper.make_node("Own", ["x"], ["y"], domain=domain)
        ports = [helper.make_tensor_value_info(name, kind, ["n"])
                 for name, kind in (("x", TensorProto.FLOAT), ("y", helper.np_dtype_to_tensor_dtype(np.dtype(dtype))))]
        graph = helper.make_graph([node], "graph", ports[:1], ports[1:])
        path = tmp_path / "model.onnx"
        onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17),
                                                                        helper.make_opsetid(domain, 1)]), path)
        monkeypatch.setitem(sys.modules, "models.nobody.kernels", SimpleNamespace(Own=kernel))
        told = {"custom_ops": {"Own": {"domain": domain, "inputs": ["float32"], "outputs": [dtype]}}}
        return kernels.session(path, "nobody", told)
    return made


def test_a_kernel_computes(model):
    def double(x):
        return x * 2

    for _ in range(2):  # two sessions of one process
        session = model(double)
    assert session.run(None, {"x": np.float32([1, 2])})[0].tolist() == [2, 4]


def test_a_kernel_that_raises_is_named_and_the_process_lives(model):
    calls = []

    def flawed(x):
        calls.append(x)
        if len(calls) == 1:
            raise ValueError("a flaw")
        return x

    session = model(flawed)
    with pytest.raises(Refusal, match=r"the kernel of tests\..*: expected it to return float32, found Value"):
        session.run(None, {"x": np.float32([1])})
    assert session.run(None, {"x": np.float32([1])})[0].tolist() == [1]


def test_a_kernel_of_another_dtype_is_named(model):
    with pytest.raises(Refusal, match="expected it to return int32, found float32"):
        model(lambda x: x, "int32").run(None, {"x": np.float32([1])})


def test_a_toolchain_without_the_library_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime_extensions", None)
    with pytest.raises(Refusal, match=r"models/nobody/kernels\.py, found none: run it in the toolchain torch, or pip"):
        kernels.library("nobody")


def test_players_ask_for_kernels(tiny, monkeypatch):
    asked = []
    monkeypatch.setattr(kernels, "session", lambda path, model, recipe: asked.append(model) or SimpleNamespace(
        get_modelmeta=lambda: SimpleNamespace(custom_metadata_map={})))
    player.load(tiny, "coconet", "denoiser", "fp32")
    assert asked == ["coconet"]


def test_the_product_that_tells_processors_apart_is_what_it_says():
    text = ('<ir_version: 8, opset_import: ["": 17]> g (uint8[m, k] a, int8[k, n] b) => (int32[m, n] y) '
            '{ y = MatMulInteger (a, b) }')
    assert onnx.parser.parse_model(text).SerializeToString() == kernels.PRODUCT


@pytest.mark.parametrize("columns", [1, 5, 64])
def test_8_bit_products_are_exact_on_every_processor(columns):
    """The largest factors, whose sums of two are more than 16 bits hold."""
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])], "g",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, ["m", 64])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, ["m", columns])],
        [onnx.numpy_helper.from_array(np.full((64, columns), 127, np.int8), "b")])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    [found] = exact_session(model.SerializeToString()).run(None, {"a": np.full((3, 64), 255, np.uint8)})
    assert (found == 64 * 255 * 127).all()


def test_what_exactness_costs_is_paid_only_where_products_saturate(monkeypatch):
    for saturating, said in ((True, "1"), (False, None)):
        monkeypatch.setattr(kernels, "saturates", lambda saturating=saturating: saturating)
        try:
            found = kernels.exact_options().get_session_config_entry("session.x64quantprecision")
        except RuntimeError:  # ONNX Runtime's way to say that there is none
            found = None
        assert found == said
