"""`make bisect MODEL=coconet`: where an exported graph's numbers part from the original's.

The original is asked for the tensors that it shares with the graph of each component and step, on a small case of the
reference (its toolchain runs the model's trace.py); ONNX Runtime is asked for the same tensors of the export, and, if
all agree, of the optimized graph.
"""

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx

from scripts import command, probe, recipe
from scripts.inspection.onnx import opened
from scripts.inspection.report import shape_text
from scripts.job import Refusal, module_name, progress

ROOT = Path(__file__).resolve().parent.parent
# Of a tensor's largest value. Measured on unharmed graphs, tiny and seeded: within 2e-5 everywhere, but for MT3's
# spectrogram, 2e-4, logarithms of next to nothing. One weight off by half its size is 6e-3 in Coconet at real size.
TOLERANCE = 1e-3
LEAST = 1e-5  # added to that value, so that a tensor of zeros isn't held to nothing
STAGES = ("export", "optimize")
MOST_AXES = 5  # of a tensor whose orders of axes are tried
SHOWN = 12


class Parting(NamedTuple):
    """The first tensor that differs."""

    tensor: str
    error: float  # of its largest value
    size: float
    shape: tuple[int, ...] | None  # None where it can't be computed
    why: str


def distance(expected: np.ndarray, found: np.ndarray) -> float | None:
    """The largest difference as a share of the largest expected value; of whole numbers, the share that differs.

    Layouts may differ: of all orders of axes that give the found shape, and of the values in their own order, the
    nearest counts. None where no order of axes gives that shape, and the values in their own order are others.
    Infinity where the number of values differs, or one isn't finite that should be.
    """
    if expected.size != found.size:
        return np.inf
    expected, found = expected.squeeze(), found.squeeze()
    orders = itertools.permutations(range(expected.ndim)) if expected.ndim <= MOST_AXES else [range(expected.ndim)]
    same = [expected.transpose(order) for order in orders
            if tuple(expected.shape[axis] for axis in order) == found.shape]
    error = min(apart(one, found) for one in (*same, expected.reshape(found.shape)))
    return error if same or error <= TOLERANCE else None


def apart(expected: np.ndarray, found: np.ndarray) -> float:
    if expected.dtype.kind in "iub":
        return float(np.mean(expected != found)) if found.size else 0.0
    wide = expected.astype(np.float64)
    with np.errstate(invalid="ignore"):
        difference = np.where(wide == found, 0, np.abs(found - wide)).max(initial=0)
    error = difference / (np.abs(wide).max(initial=0) + LEAST)
    return float(error) if np.isfinite(error) else np.inf


class Asked(NamedTuple):
    """What is asked about a component."""

    case: str
    feed: probe.Arrays
    answered: probe.Arrays  # the outputs, as the reference has them
    tensors: dict[str, list[str]]  # of the export, and the weights that each one's node reads


def originals(model: str, weights: str, told: dict[str, Any], engine: str, asked: dict[str, Asked]
              ) -> dict[str, probe.Arrays]:
    """What the original has of the tensors of each component; runs the model's trace.py in its toolchain."""
    folder = Path("build") / weights / model
    partial, log = folder / ".bisect.partial", folder / "bisect.log"
    shutil.rmtree(ROOT / partial, ignore_errors=True)
    (ROOT / partial / "asked").mkdir(parents=True)
    try:
        for name, one in asked.items():
            path = ROOT / partial / "asked" / name
            path.with_suffix(".json").write_text(json.dumps({
                "component": name, "case": one.case, "tensors": one.tensors, "inputs": list(one.feed)}))
            np.savez(path.with_suffix(".npz"), **{str(number): array for number, array in enumerate(one.feed.values())})
        task = {"model": model, "weights": weights, "recipe": told, "checkpoint": None, "out": str(partial),
                "inputs": {"fetch": str(folder / "fetch"), "asked": str(partial / "asked")}}
        with (ROOT / log).open("w", encoding="utf-8") as errors:
            done = subprocess.run([ROOT / "scripts/in", told["toolchain"], "python", "-m", "scripts.trace"], cwd=ROOT,
                                  input=json.dumps(task), text=True, stdout=subprocess.DEVNULL, stderr=errors,
                                  env={**os.environ, "ENGINE": engine}, check=False)
        if done.returncode:
            raise Refusal(f"{model}: expected its original to run on the cases of its reference, found that it "
                          f"doesn't: the whole story is in {log}")
        (ROOT / log).unlink()
        found = {}
        for name, one in asked.items():
            with np.load(ROOT / partial / f"{name}.npz") as answers:
                found[name] = {tensor: answers[str(number)] for number, tensor in enumerate(one.tensors)
                               if str(number) in answers} | one.answered
        return found
    finally:
        shutil.rmtree(ROOT / partial, ignore_errors=True)


def weights_of(model: onnx.ModelProto) -> dict[str, list[str]]:
    """The tensors of a graph in its order, and the weights that each one's node reads."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return {name: [read for read in node.input if read in weights]
            for node in model.graph.node for name in node.output if name}


def compared(path: Path, model: onnx.ModelProto, feed: probe.Arrays, expected: probe.Arrays
             ) -> tuple[dict[str, float], Parting | None]:
    """The error of each tensor that agrees, in the graph's order, up to the first that doesn't."""
    names = [name for name in weights_of(model) if name in expected]
    errors: dict[str, float] = {}
    found, flaw = as_far_as_it_goes(model, path.parent, feed, names)
    for name in names:
        if name not in found:
            return errors, Parting(name, np.inf, 0, None, flaw)
        error = distance(expected[name], found[name])
        if error is not None and not error <= TOLERANCE:
            size = float(np.abs(expected[name].astype(np.float64)).max(initial=0))
            same = found[name].size == expected[name].size
            why = "" if same else f"the original's is {shape_text(expected[name].shape)}"
            return errors, Parting(name, error, size, found[name].shape, why)
        if error is not None:
            errors[name] = error
    return errors, None


def as_far_as_it_goes(model: onnx.ModelProto, folder: Path, feed: probe.Arrays, names: Sequence[str]
                      ) -> tuple[probe.Arrays, str]:
    """These tensors, or as many of the first as the graph up to them can compute, and what stops it there."""
    def until(count: int) -> probe.Arrays:
        return probe.run(probe.session(begun(model, names[:count]), folder, names[:count]), feed, names[:count])

    try:
        return probe.run(probe.session(model, folder, names), feed, names), ""
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        found, flaw = {}, first_line(error)
    fine, broken = 0, len(names) + 1
    while broken - fine > 1:
        half = (fine + broken) // 2
        try:
            found, fine = until(half), half
        except Exception as error:
            flaw, broken = first_line(error), half
    return found, flaw


def begun(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The graph up to the last of these tensors, without outputs."""
    ends = [number for number, node in enumerate(model.graph.node) if names[-1] in node.output]
    part = onnx.ModelProto()
    part.CopyFrom(model)
    del part.graph.node[ends[0] + 1:], part.graph.output[:]
    return part


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300]


def between(model: onnx.ModelProto, tensor: str, agreeing: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes that may be to blame for a tensor, the one that makes it last.

    Those that lie between it and the tensors that agree; but none behind a node that an agreeing tensor needs. Such a
    node is blamed itself, since an activation or a norm can make its fault unseen.
    """
    makers = {name: number for number, node in enumerate(model.graph.node) for name in node.output if name}

    def needed(names: Iterable[str], stops: Container[str] = (), fine: Container[int] = ()) -> set[int]:
        found: set[int] = set()
        waiting = list(names)
        while waiting:
            number = makers.get(waiting.pop())
            if number is not None and number not in found:
                found.add(number)
                if number not in fine:
                    waiting += [name for name in model.graph.node[number].input if name not in stops]
        return found

    agreeing = set(agreeing)
    return [model.graph.node[number] for number in sorted(needed([tensor], agreeing, needed(agreeing)))]


def shown(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def growth(errors: dict[str, float]) -> str:
    """How large the errors of the agreeing tensors are, and how they grow from the graph's first third to its last."""
    if not errors:
        return "none is compared"
    values, third = list(errors.values()), max(1, len(errors) // 3)
    worst = max(errors, key=errors.__getitem__)
    return (f"the largest error is {errors[worst]:.1e} of the tensor's largest value, at {worst}; "
            f"{max(values[:third]):.1e} in the first third, {max(values[-third:]):.1e} in the last")


def tell(stage: str, model: onnx.ModelProto, errors: dict[str, float], parting: Parting | None) -> None:
    if parting is None:
        progress(f"  {stage:<9} all {len(errors)} compared tensors agree, of {len(weights_of(model))}: "
                 f"{growth(errors)}")
        return
    nodes = between(model, parting.tensor, errors)
    last, weights = nodes[-1], weights_of(model)
    read = list(dict.fromkeys(name for node in nodes for output in node.output for name in weights.get(output, [])))
    what = ("can't be computed" if parting.shape is None else
            f"{shape_text(parting.shape)}, is off by {parting.error:.2g} of the largest value, {parting.size:.3g}")
    progress(f"  {stage:<9} parts from the original at the node {last.name or '(no name)'} ({last.op_type}): its "
             f"tensor {parting.tensor} {what}{'; ' + parting.why if parting.why else ''}")
    progress(f"            before it, {len(errors)} compared tensors agree: {growth(errors)}")
    others = [f"{node.name or node.output[0]} ({node.op_type})" for node in nodes[:-1]]
    if others:
        progress(f"            it, or one of these before it, is wrong: {shown(others)}")
    progress(f"            weights read there: {shown(read) or 'none'}")


def bisect(model: str, weights: str, engine: str) -> bool:
    """Whether every compared tensor of a model agrees; prints a line or more a graph."""
    told = recipe.read(ROOT, model)
    weights = recipe.kind(told, weights)
    folder = ROOT / "build" / weights / model
    own = module_name(model, told, "trace").replace(".", "/") + ".py"
    if not (ROOT / own).is_file():
        raise Refusal(f"{own}: expected a function trace(source, recipe, question) that returns what the original has "
                      "of the graph's tensors, found none: add it, scripts/trace.py says how")
    names = [name for name, one in told["components"].items() if one["stage"] == "export"] + list(told.get("steps", {}))
    paths = {name: {stage: folder / stage / f"{name}.onnx" for stage in STAGES} for name in names}
    if missing := [path for one in paths.values() for path in one.values() if not path.is_file()]:
        setting = "CHECKPOINT=path" if weights == "custom" else f"WEIGHTS={weights}"
        raise Refusal(f"{missing[0].relative_to(ROOT)}: expected a build's graph, found none: run make {model} "
                      f"{setting} first")
    with command.alone(folder):
        asked = {name: question(folder, name, opened(paths[name]["export"])) for name in names}
        expected = originals(model, weights, told, engine, asked)
        verdicts = [agrees(f"{model} {name}, {weights} weights", paths[name], asked[name], expected[name])
                    for name in names]
    return all(verdicts)


def question(folder: Path, name: str, export: onnx.ModelProto) -> Asked:
    case, arrays = probe.smallest(folder, name) or (probe.MADE_UP, probe.made_up(export))
    ports = [port.name for port in export.graph.input]
    return Asked(case, {port: arrays[port] for port in ports},
                 {port: array for port, array in arrays.items() if port not in ports}, weights_of(export))


def agrees(title: str, paths: dict[str, Path], asked: Asked, expected: probe.Arrays) -> bool:
    """Whether a component's graphs agree with the original; the later ones are held against it while they do."""
    progress(f"{title}, {asked.case if asked.case == probe.MADE_UP else f'case {asked.case!r}'}")
    for stage, path in paths.items():
        graph = opened(path)
        errors, parting = compared(path, graph, asked.feed, expected)
        tell(stage, graph, errors, parting)
        if parting:
            return False
    return True


def main() -> int:
    parser = command.Parser(prog="scripts.bisect", description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="seeded")
    parser.add_argument("--engine", default="")
    parser.add_argument("model", metavar="MODEL", nargs="?", default="")
    asked = parser.parse_args()
    if bisect(asked.model, asked.weights, asked.engine or "auto"):
        return 0
    print(f"error: {asked.model}: graphs part from the original, see above", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(command.run(main))
