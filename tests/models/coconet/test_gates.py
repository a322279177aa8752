"""What Coconet's gates on fp32 tell apart: the same network converted otherwise, and one that is slightly another."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from scripts import recipe, reference, verify
from tests.conftest import ROOT, exact_session

Defect = Callable[[onnx.ModelProto], None]


def convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "Conv"]


def change(model: onnx.ModelProto, node: onnx.NodeProto, function: Callable[[np.ndarray], np.ndarray]) -> None:
    """Put what a function makes of a convolution's weights, float32 [outputs, inputs, time, pitch], in their place."""
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
    array = np.ascontiguousarray(function(onnx.numpy_helper.to_array(tensor)), np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


def middle(model: onnx.ModelProto, number: int = 0) -> onnx.NodeProto:
    """A convolution with a kernel of 3 by 3, from the middle of them on."""
    found = [node for node in convolutions(model) if list(next(
        one.ints for one in node.attribute if one.name == "kernel_shape")) == [3, 3]]
    return found[len(found) // 2 + number]


def one_norm_is_one_percent_off(model):
    normalized = [node for node in convolutions(model) if len(node.input) == 3]
    change(model, normalized[len(normalized) // 2], lambda weights: weights * np.float32(1.01))


def every_norm_is_off_as_with_another_epsilon(model):
    """By five millionths, as with 1e-5 for 1e-7 where variances are 1."""
    for node in convolutions(model):
        if len(node.input) == 3:
            change(model, node, lambda weights: weights * np.sqrt((1 + 1e-7) / (1 + 1e-5)))


def a_kernel_is_transposed(model):
    change(model, middle(model), lambda weights: weights.transpose(0, 1, 3, 2))


def a_layer_is_turned_round(model):
    change(model, middle(model), lambda weights: weights[:, :, ::-1, ::-1])


def two_layers_are_swapped(model):
    first, second = middle(model), middle(model, 1)
    first.input[1], second.input[1] = second.input[1], first.input[1]


def a_layer_is_a_step_late(model):
    pads = next(one for one in middle(model).attribute if one.name == "pads")
    pads.ints[0], pads.ints[2] = pads.ints[0] + 1, pads.ints[2] - 1


@pytest.fixture(scope="module", params=["coconet tiny", "coconet seeded", "coconetjs tiny", "coconetjs seeded"])
def missed(request) -> Callable[[Defect], set[str]]:
    """The gates, as metric and port, that the fp32 denoiser of a build misses with a defect, on one piece."""
    model, weights = request.param.split()
    build = request.getfixturevalue(weights).parents[1] / model
    told = recipe.read(ROOT, model)
    gates = [gate for gate in told["gates"] if (gate.get("component"), gate.get("variant")) == ("denoiser", "fp32")]
    asked = "ask" if (build / "ask").is_dir() else "export"
    case = reference.read(build / asked / "reference.npz")["denoiser"]["short"]
    piece = {name: array[:1] for name, array in case.items()}
    ports = {port["name"]: port for port in told["components"]["denoiser"]["outputs"]}

    def judged(defect: Defect) -> set[str]:
        graph = onnx.load(build / "compose" / f"{model}-denoiser-fp32.onnx")
        defect(graph)
        found = exact_session(graph.SerializeToString()).run(list(ports), {
            name: piece[name] for name in ("pianorolls", "masks")})
        rows = [{"case": "short", "port": name, **verify.compare(
            piece[name], array, ports[name].get("classes"), piece["masks"], exact=piece[name + reference.EXACT])}
            for name, array in zip(ports, found, strict=True)]
        return {f"{gate['metric']} of {gate['port']}" for gate in gates if not verify.judge(gate, rows, {})["passed"]}

    return judged


def test_the_network_as_it_is_passes(missed):
    assert not missed(lambda model: None)


@pytest.mark.parametrize("defect", [one_norm_is_one_percent_off, every_norm_is_off_as_with_another_epsilon])
def test_numbers_that_are_slightly_off_are_more_than_the_originals_noise(missed, defect):
    """Though hardly a note is another."""
    assert missed(defect) >= {"noise_ratio of logits", "noise_ratio of probabilities"}


@pytest.mark.parametrize("defect", [a_kernel_is_transposed, a_layer_is_turned_round, two_layers_are_swapped,
                                    a_layer_is_a_step_late])
def test_another_network_misses_every_gate(missed, defect):
    assert missed(defect) == {"noise_ratio of logits", "noise_ratio of probabilities", "argmax_mismatches of logits"}
