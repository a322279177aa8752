"""`make extract ONNX=path FROM=tensor,… TO=tensor,… OUT=piece.onnx`: a piece of a graph that runs alone.

The piece holds the nodes between the tensors, and the weights that they read: inside, or beside it where the graph's
own are. It is checked, loaded in ONNX Runtime, and, if the graph is of a build, run on what the whole graph has at
these tensors on a case of the reference: piece.npz holds them, and the piece alone must return them.
"""

import difflib
import math
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx.shape_inference import InferenceError, infer_shapes

from scripts import command, graphs, probe
from scripts.inspection.onnx import all_tensors, bits, opened, refuse_too_new, type_of
from scripts.inspection.report import shape_text, totals
from scripts.job import Refusal, progress

ROOT = Path(__file__).resolve().parent.parent
CLOSE = 1e-6  # of the largest value: what a piece may differ from the whole
DTYPES = {"tensor(float)": onnx.TensorProto.FLOAT, "tensor(float16)": onnx.TensorProto.FLOAT16,
          "tensor(double)": onnx.TensorProto.DOUBLE, "tensor(int64)": onnx.TensorProto.INT64,
          "tensor(int32)": onnx.TensorProto.INT32, "tensor(int8)": onnx.TensorProto.INT8,
          "tensor(uint8)": onnx.TensorProto.UINT8, "tensor(bool)": onnx.TensorProto.BOOL}


def cut(model: onnx.ModelProto, starts: Sequence[str], ends: Sequence[str]) -> list[onnx.NodeProto]:
    """The nodes that compute the ends from the starts, in the graph's order.

    Raises Refusal on a tensor that isn't the graph's, an end that needs an input which is no start, and a start that no
    end needs.
    """
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output if name}
    inputs, weights = {port.name for port in graph.input}, {tensor.name for tensor in graph.initializer}
    inputs -= weights
    for variable, names in (("FROM", starts), ("TO", ends)):
        for name in names:
            if name in weights or name not in makers.keys() | inputs:
                raise unknown(model, variable, name, [*inputs, *makers], name in weights)
    if both := sorted(set(starts) & set(ends)):
        raise Refusal(f"TO={both[0]}: expected another tensor than FROM names, found the same: name one behind it")
    needed, seen = set(), set()
    waiting = [(name, name) for name in reversed(ends)]
    while waiting:
        name, end = waiting.pop()
        if name in seen or name in weights or not name:
            continue
        seen.add(name)
        if name in starts:
            continue
        if name in inputs:
            raise Refusal(f"TO={end}: expected a tensor that FROM alone decides, found one that needs the graph's "
                          f"input {name} too: add it to FROM, or a tensor that lies between")
        needed.add(id(makers[name]))
        waiting += [(read, end) for read in reads(makers[name])]
    for name in starts:
        if name not in seen:
            raise Refusal(f"TO={','.join(ends)}: expected tensors that can be reached from {name}, found none that "
                          "needs it: leave it out of FROM, or name a tensor behind it")
    return [node for node in graph.node if id(node) in needed]


def unknown(model: onnx.ModelProto, variable: str, name: str, known: list[str], weight: bool) -> Refusal:
    """The sentence about a tensor that a piece can't begin or end with."""
    if weight:
        return Refusal(f"{variable}={name}: expected a tensor that the graph computes, found a weight: it comes with "
                       "the nodes that read it")
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH and name in inner_names(attribute.g):
                return Refusal(f"{variable}={name}: expected a tensor of the outer graph, found one inside the body of "
                               f"the {node.op_type} {node.name or node.output[0]}: what is inside can't run alone, cut "
                               "the step that was composed into it (make graph MODEL=… draws it)")
    near = difflib.get_close_matches(name, known, 3, 0.4)
    return Refusal(f"{variable}={name}: expected a tensor of the graph, found none of this name: "
                   f"{'did you mean ' + ' or '.join(near) if near else 'make graph ONNX=… shows them'}")


def inner_names(graph: onnx.GraphProto) -> set[str]:
    """What is computed in a body, at every depth."""
    return {name for part in (graph, *graphs.inner_graphs(graph))
            for name in (*(port.name for port in part.input), *(made for node in part.node for made in node.output))}


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads, its bodies' reads of the graph around them too."""
    yield from node.input
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            inner = [name for part in attribute.g.node for name in reads(part)]
            inner += [port.name for port in attribute.g.output]
            own = {port.name for port in attribute.g.input} | {tensor.name for tensor in attribute.g.initializer}
            own |= {name for part in attribute.g.node for name in part.output}
            yield from (name for name in inner if name not in own)


def types(model: onnx.ModelProto, folder: Path, names: Sequence[str]) -> dict[str, onnx.ValueInfoProto]:
    """The ports of these tensors, with dtype and shape by onnx's inference; where it knows none, by ONNX Runtime's."""
    try:
        graph = infer_shapes(model, data_prop=True).graph
    except (InferenceError, ValueError):  # of a graph that contradicts itself, or larger than a protobuf
        graph = model.graph
    known = {port.name: port for port in (*graph.value_info, *graph.output, *graph.input)
             if port.type.tensor_type.elem_type}
    if lacking := [name for name in names if name not in known]:
        told = {port.name: port for port in probe.session(model, folder, lacking).get_outputs()}
        for name in lacking:
            if told[name].type not in DTYPES:
                raise Refusal(f"{name}: expected a tensor of numbers, found {told[name].type}: name one before or "
                              "behind it")
            known[name] = onnx.helper.make_tensor_value_info(name, DTYPES[told[name].type], told[name].shape)
    return {name: known[name] for name in names}


def piece_of(model: onnx.ModelProto, path: Path, starts: Sequence[str], ends: Sequence[str]) -> onnx.ModelProto:
    """The piece, its weights in it."""
    nodes, ports = cut(model, starts, ends), types(model, path.parent, [*starts, *ends])
    used = {name for node in nodes for name in reads(node)}
    piece = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    piece.graph.name = f"{model.graph.name}-piece"
    piece.graph.node.extend(nodes)
    piece.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in used)
    piece.graph.sparse_initializer.extend(one for one in model.graph.sparse_initializer if one.values.name in used)
    piece.graph.input.extend(ports[name] for name in starts)
    piece.graph.output.extend(ports[name] for name in ends)
    for tensor in all_tensors(piece):
        take_in(tensor, path.parent)
    return piece


def take_in(tensor: onnx.TensorProto, folder: Path) -> None:
    """Read a weight that lies beside the graph. Raises Refusal where its file is missing or too short."""
    if not tensor.external_data:
        return
    place = {entry.key: entry.value for entry in tensor.external_data}
    try:
        path = folder / place["location"]
        length = int(place.get("length") or math.prod(tensor.dims) * bits(tensor.data_type) // 8)
        start = int(place.get("offset") or 0)
    except (KeyError, ValueError) as error:
        raise Refusal(f"{tensor.name}: expected a file, an offset and a length, found {place}: the graph is damaged, "
                      "fetch or save it again") from error
    if not path.is_file() or start < 0 or not 0 <= length <= path.stat().st_size - start:
        raise Refusal(f"{path}: expected the {length:,} bytes of {tensor.name} from byte {start:,}, found "
                      f"{'a shorter file' if path.is_file() else 'none'}: put the graph's weights beside it, whole")
    with path.open("rb") as file:
        file.seek(start)
        tensor.raw_data = file.read(length)
    del tensor.external_data[:]
    tensor.ClearField("data_location")


def recorded(model: onnx.ModelProto, path: Path, names: Sequence[str]) -> tuple[str, probe.Arrays] | None:
    """The smallest case of the reference of the graph's component, and what the whole graph has at these tensors."""
    place = probe.place_of(path, model, ROOT / "build")
    case = place and probe.smallest(ROOT / "build" / place.weights / place.model, place.component)
    if not case:
        return None
    try:
        return case[0], probe.run(probe.session(model, path.parent, names), case[1], names)
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        raise Refusal(f"{path}: expected a graph that runs on the reference's case {case[0]!r}, found one that doesn't "
                      f"({first_line(error)}): make inspect ONNX={path} says more") from error


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300]


def prove(path: Path, tensors: Mapping[str, np.ndarray], ends: Sequence[str]) -> str:
    """Check a piece and run it on the recorded tensors if there are any. Returns how its answers compare."""
    try:
        onnx.checker.check_model(str(path), full_check=True)
        piece = graphs.load(path, weights=False)
        alone = probe.session(piece, path.parent)
        found = probe.run(alone, tensors, ends) if tensors else {}
    except Exception as error:  # of onnx's checker or of ONNX Runtime
        raise Refusal(f"expected a piece that runs alone, found one that doesn't ({first_line(error)}): begin or end "
                      "it at another tensor") from error
    worst = 0.0
    for name, answer in found.items():
        size = np.abs(tensors[name].astype(np.float64)).max(initial=0)
        error = np.abs(answer.astype(np.float64) - tensors[name]).max(initial=0) / (size or 1)
        if not error <= CLOSE:
            raise Refusal(f"{name}: expected of the piece what the whole graph has there, found a difference of "
                          f"{error:.2g} of its largest value: please report this graph, a piece must not differ")
        worst = max(worst, error)
    return f"within {worst:.1e} of the largest value" if worst else "bit for bit"


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """An .npz of arrays whatever their names are, which np.savez takes for its own arguments if they are `file`."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array) if array.ndim else array,
                                          allow_pickle=False)


def extract(path: Path, starts: Sequence[str], ends: Sequence[str], out: Path) -> None:
    model = opened(path)
    refuse_too_new(path, model)
    piece = piece_of(model, path, starts, ends)
    weights = piece.graph.initializer
    told = totals("weights", len(weights), sum(math.prod(tensor.dims) for tensor in weights),
                  sum(math.prod(tensor.dims) * bits(tensor.data_type) // 8 for tensor in weights))
    case = recorded(model, path, [*starts, *ends])
    tensors = case[1] if case else {}
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        graphs.save(piece, partial / out.name, beside=graphs.beside(model) is not None)
        compared = prove(partial / out.name, tensors, ends)
        if tensors:
            save_arrays((partial / out.name).with_suffix(".npz"), tensors)
        for stale in (out.with_suffix(graphs.BESIDE), out.with_suffix(".npz")):
            stale.unlink(missing_ok=True)
        for file in sorted(partial.iterdir(), key=lambda file: file.suffix == out.suffix):  # the graph as the last
            os.replace(file, out.with_name(file.name))
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    progress(f"wrote {out}: {len(piece.graph.node)} nodes, {told}")
    for arrow, ports in (("from", piece.graph.input), ("to", piece.graph.output)):
        for port in ports:
            progress(f"  {arrow:<4} {port.name}  {' '.join(type_of(port))}")
    if case:
        progress(f"wrote {out.with_suffix('.npz')}: these tensors on the reference's case {case[0]!r}, "
                 + ", ".join(f"{name} {shape_text(tensors[name].shape)}" for name in (*starts, *ends)))
        progress(f"the piece alone returns what the whole graph has there, {compared}")
    else:
        progress("no run is recorded of this graph, as no build here has a reference of it: the piece is checked and "
                 "loads, its numbers aren't compared")


def checked(parser: command.Parser) -> tuple[Path, list[str], list[str], Path]:
    """What was asked for. Raises Refusal on what is missing or can't be written."""
    asked = parser.parse_args()
    names = {}
    for variable, text in (("FROM", asked.starts), ("TO", asked.ends)):
        names[variable] = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
        if not names[variable]:
            raise Refusal(f"{variable}: expected the name of a tensor, or several with commas between, found none: "
                          "make graph ONNX=… shows them")
    for variable, text in (("ONNX", asked.onnx), ("OUT", asked.out)):
        if not text:
            raise Refusal(f"{variable}: expected a file, found none: for instance {variable}=piece.onnx")
    path, out = (Path(text).expanduser().resolve() for text in (asked.onnx, asked.out))
    if out.is_dir() or out.suffix != ".onnx" or not out.parent.is_dir():
        found = ("a folder" if out.is_dir() else f"the ending {out.suffix!r}" if out.suffix != ".onnx"
                 else "no folder to put it in")
        raise Refusal(f"OUT={asked.out}: expected a file to write that ends in .onnx, found {found}: name another")
    beside = [path.with_name(name) for name in [graphs.beside(opened(path))] if name]
    if any(target.exists() and target.samefile(one) for target in (out, out.with_suffix(graphs.BESIDE))
           for one in (path, *beside) if one.exists()):
        raise Refusal(f"OUT={asked.out}: expected another file than ONNX and its weights, found the same: name a new "
                      "one")
    return path, names["FROM"], names["TO"], out


def main() -> int:
    parser = command.Parser(prog="scripts.extract", description=__doc__.splitlines()[0])
    parser.add_argument("--onnx", default="")
    parser.add_argument("--from", dest="starts", default="")
    parser.add_argument("--to", dest="ends", default="")
    parser.add_argument("out", metavar="OUT", nargs="?", default="")
    extract(*checked(parser))
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
