"""Runs an ONNX graph with inner tensors as outputs too, on a case of a build's reference or on made-up numbers."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime

from scripts import reference
from scripts.seeded import seeded_uniform

MADE_UP = "made-up numbers"  # the case of a step that the reference tells nothing of
AXIS = 2  # the size of an axis that no reference fixes
Arrays = dict[str, np.ndarray]


class Place(NamedTuple):
    """What a graph of a build is of."""

    weights: str
    model: str
    component: str


def place_of(path: Path, model: onnx.ModelProto, build: Path) -> Place | None:
    """Which component's graph this is, by an artifact's metadata or else by its place in a build, or None."""
    told = {entry.key: entry.value for entry in model.metadata_props}
    if {"model", "component", "weights"} <= told.keys():
        return Place(told["weights"], told["model"], told["component"])
    if not path.is_relative_to(build) or len(path.relative_to(build).parts) != 4:
        return None
    weights, name, stage, file = path.relative_to(build).parts
    component = Path(file).stem.rpartition("-")[0] if stage == "quantize" else Path(file).stem
    return Place(weights, name, component)


def smallest(folder: Path, component: str) -> tuple[str, Arrays] | None:
    """The case of a build's reference with the fewest numbers: its name, and what each port took or returned.

    One frame alone, or one sequence, hides what a graph does across frames; such cases are taken where all are such.
    """
    paths = [path for stage in ("ask", "export") if (path := folder / stage / "reference.npz").is_file()]
    cases = reference.read(paths[0]).get(component, {}) if paths else {}
    if not cases:
        return None
    longest: dict[tuple[str, int], int] = {}
    for ports in cases.values():
        for axis, size in axes(ports).items():
            longest[axis] = max(size, longest.get(axis, 0))

    def rank(case: str) -> tuple[int, int, str]:
        alone = sum(size <= 1 < longest[axis] for axis, size in axes(cases[case]).items())
        return alone, sum(array.size for array in cases[case].values()), case

    best = min(cases, key=rank)
    return best, cases[best]


def axes(ports: Arrays) -> dict[tuple[str, int], int]:
    """The size of every axis of every port."""
    return {(port, axis): size for port, array in ports.items() for axis, size in enumerate(array.shape)}


def made_up(model: onnx.ModelProto) -> Arrays:
    """Numbers from -1 to 1 for each input, its free axes of size 2; whole numbers are 0."""
    feed = {}
    for port in model.graph.input:
        shape = [axis.dim_value or AXIS for axis in port.type.tensor_type.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type)
        feed[port.name] = np.asarray(seeded_uniform(f"probe/{port.name}", shape)).astype(dtype)
    return feed


def session(model: onnx.ModelProto, folder: Path, names: Iterable[str] = ()) -> onnxruntime.InferenceSession:
    """A session of the graph as it is written, without the runtime's own fusions, that can be asked for these tensors.

    folder: where weights lie that are beside the graph.
    """
    known = {port.name for port in (*model.graph.input, *model.graph.output)}
    added = [onnx.ValueInfoProto(name=name) for name in names if name not in known]
    count = len(model.graph.output)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    model.graph.output.extend(added)
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    finally:
        del model.graph.output[count:]


def run(asked: onnxruntime.InferenceSession, feed: Mapping[str, np.ndarray], names: Sequence[str]) -> Arrays:
    """These tensors of a session that can be asked for them; inputs are what was fed. Computes no more than they need.

    Raises RuntimeError, or one of ONNX Runtime's classes under it, where the graph can't compute them.
    """
    inputs = [port.name for port in asked.get_inputs()]
    computed = [name for name in names if name not in inputs]
    options = onnxruntime.RunOptions()
    options.only_execute_path_to_fetches = True
    options.log_severity_level = 4
    found = dict(zip(computed, asked.run(computed, {name: feed[name] for name in inputs}, options)))
    return {name: found.get(name, feed.get(name)) for name in names}
