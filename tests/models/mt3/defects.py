"""What a conversion may get wrong, planted in artifacts, and the gates that it misses."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from models.mt3.components import EPSILON
from models.mt3.inputs import HEAD_DIM, HEADS, HOP
from models.mt3.spectrogram import FRAME
from scripts import graphs, job, reference, verify

Weights = Mapping[str, np.ndarray]
Change = Callable[[str, Weights], Weights]  # of a stack, encoder or decoder, and its arrays: those that are changed


def norm_off(stack: str, weights: Weights) -> Weights:
    """A scale of a norm in the middle, by 1 %."""
    name = f"{stack}/layers_4/pre_mlp_layer_norm"
    return {name: weights[name] * np.float32(1.01)}


def heads_swapped(stack: str, weights: Weights) -> Weights:
    """The first two of the queries of a layer."""
    [name] = [name for name in weights if name.startswith(f"{stack}/layers_4/") and "/query+" in name]
    first, second, rest = np.split(weights[name], [HEAD_DIM, 2 * HEAD_DIM], axis=1)
    return {name: np.concatenate([second, first, rest], axis=1)}


def layers_swapped(stack: str, weights: Weights) -> Weights:
    """The fourth and the fifth."""
    one, other = f"{stack}/layers_3/", f"{stack}/layers_4/"
    return {new: array for name, array in weights.items()
            for old, swapped in ((one, other), (other, one))
            if name.startswith(old) and (new := name.replace(old, swapped)) in weights}


def kernel_transposed(stack: str, weights: Weights) -> Weights:
    """A kernel whose bytes are read in the order of its transpose, which is square in the authors' encoder."""
    name = {"encoder": "encoder/continuous_inputs_projection", "decoder": "decoder/layers_4/self_attention/out"}[stack]
    return {name: weights[name].T.reshape(weights[name].shape)}


def larger_epsilon(stack: str, weights: Weights) -> Weights:
    """1e-5 for 1e-6 in every norm, as other norms have it."""
    return {name: array * np.float32(10) for name, array in weights.items()
            if array.shape == () and array == np.float32(EPSILON)}


def norms_dropped(stack: str, weights: Weights) -> Weights:
    """Every scale is 1, as where converters look at folders alone."""
    return {name: np.ones_like(array) for name, array in weights.items() if name.endswith("norm")}


def last_norm_dropped(stack: str, weights: Weights) -> Weights:
    name = f"{stack}/{stack}_norm"
    return {name: np.ones_like(weights[name])}


def positions_shifted(stack: str, weights: Weights) -> Weights:
    return {"positions": np.roll(weights["positions"], 1, axis=0)}


def queries_scaled(stack: str, weights: Weights) -> Weights:
    """A layer's by 1/sqrt(d), as other transformers have it."""
    [name] = [name for name in weights if name.startswith(f"{stack}/layers_4/") and "/query+" in name]
    scale = np.ones(weights[name].shape[1], np.float32)
    scale[:HEADS * HEAD_DIM] = HEAD_DIM ** -0.5
    return {name: weights[name] * scale}


def louder(stack: str, weights: Weights) -> Weights:
    return {"mel_matrix": weights["mel_matrix"] * np.float32(1.02)}


def frame_late(stack: str, weights: Weights) -> Weights:
    """The frontend hears a frame late: of the zeros that it puts after the sound a frame's come before it."""
    moved = np.array([0, HOP, 0, FRAME - 2 * HOP])
    return {name: moved for name, array in weights.items()
            if np.array_equal(array, [0, 0, 0, FRAME - HOP])}


DEFECTS: Mapping[str, tuple[str, Change]] = {
    f"{change.__name__} in the {component}": (component, change)
    for components, changes in ((("encoder", "decoder"), (
        norm_off, heads_swapped, layers_swapped, kernel_transposed, larger_epsilon, norms_dropped, last_norm_dropped,
        positions_shifted, queries_scaled)), (("frontend",), (frame_late, louder)))
    for component in components for change in changes}


def plant(change: Callable[[Weights], Weights], artifact: Path, target: Path) -> None:
    """Write an artifact with some of its arrays changed; that any is changed is made sure of."""
    model = onnx.load(artifact)
    tensors = [tensor for graph in (model.graph, *graphs.inner_graphs(model.graph)) for tensor in graph.initializer]
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors}
    changed = change(weights)
    assert changed and not any(np.array_equal(array, weights[name]) for name, array in changed.items())
    for tensor in tensors:
        if tensor.name in changed:
            array = changed[tensor.name]
            assert (array.shape, array.dtype) == (weights[tensor.name].shape, weights[tensor.name].dtype)
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), tensor.name))
    onnx.save(model, target)


def missed(task: job.Job, cases: Mapping[str, reference.Cases], component: str, path: Path) -> list[str]:
    """The gates of a component's reference variant that a file misses, a sentence each."""
    measured = verify.measure(task.recipe["components"][component], cases[component],
                              functools.partial(verify.by_onnxruntime, path, task))
    gates = [verify.judge(gate, measured, {"bytes": path.stat().st_size})
             for gate in verify.gates_of(task, component, "fp32", "onnx")]
    return [gate["text"] for gate in gates if not gate["passed"]]
