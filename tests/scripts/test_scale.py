"""A network that computes the same by larger or smaller numbers inside meets and misses the same gates."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from scripts import quantize, recipe, verify
from scripts.seeded import seeded_uniform
from tests.conftest import ROOT, exact_session

WIDTH, CLASSES = 24, 40
KERNELS = {"taken": WIDTH, "query": WIDTH, "key": WIDTH, "value": WIDTH, "out": WIDTH, "inner": WIDTH, "last": CLASSES}
EPSILON = 1e-6
INSIDE = ("taken", "keys", "values", "hidden")  # ports
OUTSIDE = {"mel", "harmonized", "tokens", "codes", "vamped"}  # ports whose size is given: a spectrogram's, and words
Arrays = dict[str, np.ndarray]
# Of what comes before the norm, of queries by keys, of values, of what is rectified.
SCALES = [(64, 1, 1, 1), (1 / 32, 1, 1, 1), (1, 256, 1, 1), (1, 1 / 128, 1, 1), (1, 1, 64, 1), (1, 1, 1, 1 / 64),
          (3, 7, 11, 13), (0.3, 0.1, 0.07, 0.9), (50, 1 / 60, 1 / 70, 80)]


def network(scales: tuple[float, ...] = (1, 1, 1, 1)) -> Arrays:
    """Weights, float32 by name, of the same function for any scales."""
    before, queries, values, hidden = scales
    factors = {"taken": 0.1 * before, "query": 2 * queries, "key": 2 / queries, "value": values, "out": 1 / values,
               "inner": hidden, "last": 3 / hidden}
    arrays = {name: (np.sqrt(3 / WIDTH) * factors[name] * seeded_uniform(f"scale/{name}", (WIDTH, columns)))
              .astype(np.float32) for name, columns in KERNELS.items()}
    arrays["norm"] = 1 + np.float32(0.2) * seeded_uniform("scale/norm", (WIDTH,))
    arrays["epsilon"] = np.array(EPSILON * before ** 2, np.float32)
    return arrays


def original(arrays: Arrays, x: np.ndarray, dtype: type) -> Arrays:
    """What the network returns of x [batch, time, WIDTH], by port, computed in a dtype: logits, and what is inside."""
    told = {name: array.astype(dtype) for name, array in arrays.items()}
    taken = x.astype(dtype) @ told["taken"]
    normed = taken / np.sqrt(np.square(taken).mean(-1, keepdims=True) + told["epsilon"]) * told["norm"]
    queries, keys, values = (normed @ told[name] for name in ("query", "key", "value"))
    scores = queries @ keys.swapaxes(1, 2)
    looks = np.exp(scores - scores.max(-1, keepdims=True))
    heard = looks / looks.sum(-1, keepdims=True) @ values @ told["out"] + normed
    hidden = np.maximum(heard @ told["inner"], 0)
    return {"taken": taken, "keys": keys, "values": values, "hidden": hidden, "logits": hidden @ told["last"]}


def graph(arrays: Arrays) -> onnx.ModelProto:
    """The same in ONNX, as a conversion writes it."""
    node, port, real = onnx.helper.make_node, onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    nodes = [node("MatMul", ["x", "taken.weight"], ["taken"]),
             node("Mul", ["taken", "taken"], ["squares"]),
             node("ReduceMean", ["squares"], ["power"], axes=[-1], keepdims=1),
             node("Add", ["power", "epsilon.weight"], ["positive"]), node("Sqrt", ["positive"], ["root"]),
             node("Div", ["taken", "root"], ["unit"]), node("Mul", ["unit", "norm.weight"], ["normed"]),
             node("MatMul", ["normed", "query.weight"], ["queries"]),
             node("MatMul", ["normed", "key.weight"], ["keys"]), node("MatMul", ["normed", "value.weight"], ["values"]),
             node("Transpose", ["keys"], ["across"], perm=[0, 2, 1]), node("MatMul", ["queries", "across"], ["scores"]),
             node("Softmax", ["scores"], ["looks"], axis=-1), node("MatMul", ["looks", "values"], ["seen"]),
             node("MatMul", ["seen", "out.weight"], ["added"]), node("Add", ["added", "normed"], ["heard"]),
             node("MatMul", ["heard", "inner.weight"], ["linear"]), node("Relu", ["linear"], ["hidden"]),
             node("MatMul", ["hidden", "last.weight"], ["logits"])]
    outputs = [port(name, real, ["batch", "time", CLASSES if name == "logits" else WIDTH])
               for name in (*INSIDE, "logits")]
    made = onnx.helper.make_graph(nodes, "network", [port("x", real, ["batch", "time", WIDTH])], outputs,
                                  [onnx.numpy_helper.from_array(array, f"{name}.weight")
                                   for name, array in arrays.items()])
    return onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def changed(**changes: Callable[[np.ndarray], np.ndarray]) -> Callable[[Arrays], Arrays]:
    """A conversion that gets arrays wrong."""
    return lambda arrays: {name: np.ascontiguousarray(changes[name](array)) if name in changes else array
                           for name, array in arrays.items()}


DEFECTS = {
    "a norm 1 % off": changed(norm=lambda array: array * np.float32(1.01)),
    "a transposed kernel": changed(value=np.transpose),
    "halves of queries swapped": changed(query=lambda array: np.roll(array, WIDTH // 2, 1)),
    "an epsilon of 1e-5": changed(epsilon=lambda array: 10 * array),
    "queries scaled by 1/sqrt(d)": changed(query=lambda array: array / np.float32(np.sqrt(WIDTH))),
}
METHODS = {"fp32": "none", "fp16": "half-weights", "int8": "byte-weights", "int8 activations": "dynamic-columns"}


def gates(exact: bool) -> list[dict[str, Any]]:
    """Every gate of the recipes that judges numbers, once for each port here: those of fp32, or of lossy variants."""
    found = []
    for model in recipe.models(ROOT):
        for gate in recipe.read(ROOT, model)["gates"]:
            if "port" in gate and gate["port"] not in OUTSIDE and exact == (gate.get("variant", "fp32") == "fp32"):
                found += [{**{key: gate[key] for key in ("metric", "at_most", "at_least") if key in gate}, "port": port}
                          for port in (*INSIDE, "logits")]
    return found


def measured(scales: tuple[float, ...], method: str, folder: Path,
             convert: Callable[[Arrays], Arrays] = lambda arrays: arrays) -> list[dict[str, Any]]:
    """Rows of measurements of an artifact, as the stage verify has them, a port each."""
    arrays, x = network(scales), seeded_uniform("scale/x", (8, 30, WIDTH))
    source, target = folder / "network.onnx", folder / "network-made.onnx"
    onnx.save(graph(convert(arrays)), source)
    if method == "none":
        source.replace(target)
    else:
        quantize.METHODS[method](None, "network", source, target)
    names = (*INSIDE, "logits")
    found = dict(zip(names, exact_session(target).run(names, {"x": x}), strict=True))
    own, exact = (original(arrays, x, dtype) for dtype in (np.float32, np.float64))
    return [{"case": "only", "port": name, **verify.compare(
        own[name], found[name], 2 if name == "logits" else None, exact=exact[name])} for name in names]


def verdicts(rows: list[dict[str, Any]], exact: bool) -> dict[str, bool]:
    """Whether each gate is passed that the rows can be held to, by its words."""
    told = {row["port"]: row.keys() for row in rows}
    return {str(gate): verify.judge(gate, rows, {})["passed"] for gate in gates(exact)
            if gate["metric"] in told[gate["port"]]}


@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize("variant", METHODS)
def test_a_variant_meets_the_same_gates_whatever_the_scale_inside(tmp_path, variant, scales):
    exact = variant == "fp32"
    told = verdicts(measured((1, 1, 1, 1), METHODS[variant], tmp_path), exact)
    assert len(told) >= 10 and any(told.values())
    assert verdicts(measured(scales, METHODS[variant], tmp_path), exact) == told


@pytest.mark.parametrize("scales", [(1, 1, 1, 1), *SCALES], ids=str)
def test_what_is_sound_passes_at_any_scale(tmp_path, scales):
    assert all(verdicts(measured(scales, "none", tmp_path), exact=True).values())


@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_misses_the_same_gates_whatever_the_scale_inside(tmp_path, defect, scales):
    told = verdicts(measured((1, 1, 1, 1), "none", tmp_path, DEFECTS[defect]), exact=True)
    assert not all(told.values())
    assert verdicts(measured(scales, "none", tmp_path, DEFECTS[defect]), exact=True) == told


def test_a_bound_in_absolute_numbers_would_not_hold(tmp_path):
    """What such a gate says depends on the scale: so these tests would notice one."""
    gate = {"metric": "max_error", "port": "hidden", "at_most": 1e-5}
    small, large = (measured((1, 1, 1, scale), "none", tmp_path) for scale in (1 / 64, 64))
    assert verify.judge(gate, small, {})["passed"] and not verify.judge(gate, large, {})["passed"]
