"""Reads an ONNX model as data for `make inspect`: ports, ops by onnx's registry and ONNX Runtime's kernels, weights.

The session that shows whether ONNX Runtime takes the model is made of the graph alone: weights that lie in other files
become inputs, and no optimizer computes anything.
"""

import math
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_opkernel_def

from scripts.inspection.report import (
    UNKNOWN,
    Report,
    answer,
    look,
    places,
    read,
    refusal,
    report,
    section,
    shape_text,
    totals,
)
from scripts.job import Refusal
from scripts.unpack import outside

EXPECTED = "an ONNX model"
RUNS, LACKING, IMPOSSIBLE = "runs", "needs a kernel", "impossible"
DTYPES = onnx.TensorProto.DataType


def opened(path: Path) -> onnx.ModelProto:
    """The model without what lies in other files. Raises Refusal on a file that is none, or asks for others'."""
    content = read(path, EXPECTED)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)  # which stops at messages nested 100 deep
    except (DecodeError, RecursionError) as error:
        raise refusal(path, EXPECTED, "a protobuf that is cut off, or nested too deep" if look(content) ==
                      UNKNOWN else look(content)) from error
    if not model.opset_import or not model.graph.node or model.ir_version < 1:
        raise refusal(path, EXPECTED, "a protobuf without graph or opset" if look(content) == UNKNOWN else
                      look(content))
    for tensor in all_tensors(model):
        for entry in tensor.external_data:
            if entry.key == "location" and (outside(entry.value) or (path.parent / entry.value).is_symlink()):
                raise Refusal(f"{path}: {tensor.name}: expected weights in the model's own folder, found "
                              f"{entry.value!r}: it is made to read other files, don't use it")
    return model


def refuse_too_new(path: Path, model: onnx.ModelProto) -> None:
    """Raise Refusal where ONNX Runtime takes no model of these versions, as it says of one with a single node."""
    ports = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "probe", ports[:1], ports[1:])
    alone = onnx.ModelProto(ir_version=model.ir_version, graph=graph, opset_import=model.opset_import)
    said = session_flaw(alone)
    if found := re.search(r"model IR version: (\d+), max supported IR version: (\d+)", said):
        what, newer, most = "IR version", *found.groups()
        remedy = f"load it with onnx, set model.ir_version = {most} and save it, or export it with an older onnx"
    elif found := re.search(r"Opset (\d+) is .*? domain (\S+) is till opset (\d+)", said):
        newer, domain, most = found.groups()
        what, remedy = f"opset of {domain}", f"export it for opset {most}, or convert it with onnx.version_converter"
    else:
        return
    raise Refusal(f"{path}: expected {what} {most} at most, which ONNX Runtime {onnxruntime.__version__} reads, found "
                  f"{newer}: {remedy}")


def all_graphs(model: onnx.ModelProto) -> list[onnx.GraphProto | onnx.FunctionProto]:
    """Every graph of a model, functions and inner graphs too."""
    found: list[onnx.GraphProto | onnx.FunctionProto] = []
    waiting = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        found.append(graph)
        for attribute in (attribute for node in graph.node for attribute in node.attribute):
            waiting += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
    return found


def all_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every array of a model: initializers, and those in attributes."""
    for graph in all_graphs(model):
        sparse = []
        if isinstance(graph, onnx.GraphProto):
            yield from graph.initializer
            sparse += graph.sparse_initializer
        for attribute in (attribute for node in graph.node for attribute in node.attribute):
            yield from [*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors]
            sparse += [*([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
                       *attribute.sparse_tensors]
        for tensor in sparse:
            yield from (tensor.values, tensor.indices)


def model_report(path: Path) -> Report:
    """What an ONNX model takes and returns, whether each op has a meaning and a kernel, and how large it is."""
    model = opened(path)
    refuse_too_new(path, model)
    weights = [tensor for graph in all_graphs(model) if isinstance(graph, onnx.GraphProto)
               for tensor in graph.initializer]
    named = {tensor.name for tensor in model.graph.initializer}
    ports = [(arrow, port.name, *type_of(port)) for arrow, some in (("input", model.graph.input), (
        "output", model.graph.output)) for port in some if port.name not in named]
    judged = ops(model)
    flaw = session_flaw(model)
    sizes = [math.prod(tensor.dims) for tensor in weights]
    size = sum(math.ceil(count * bits(tensor.data_type) / 8) for count, tensor in zip(sizes, weights))
    beside = sorted({entry.value for tensor in weights for entry in tensor.external_data if entry.key == "location"})
    absent = [name for name in beside if not (path.parent / name).is_file()]
    return report(
        [section("ports", ("", "name", "dtype", "shape"), ports),
         section(f"ops, by onnx {onnx.__version__} and ONNX Runtime {onnxruntime.__version__}",
                 ("op", "domain", "opset", "count", "verdict", "why", "where"), judged, (3,)),
         section("weights", ("name", "shape", "dtype"),
                 ((tensor.name, shape_text(tensor.dims), dtype_name(tensor.data_type)) for tensor in weights))],
        [totals("weights", len(weights), sum(sizes), size),
         f"beside       {', '.join(beside) or 'nothing'}" + (f"; missing {', '.join(absent)}" if absent else ""),
         f"a session    {'of ONNX Runtime can be made' if not flaw else 'cannot be made: ' + flaw}"],
        advice(judged, flaw, absent))


def type_of(port: onnx.ValueInfoProto) -> tuple[str, str]:
    """The dtype and the shape of a port; dynamic axes by name."""
    if not port.type.HasField("tensor_type"):
        return port.type.WhichOneof("value") or "unknown", ""
    told = port.type.tensor_type
    axes = [axis.dim_param or axis.dim_value if axis.WhichOneof("value") else None for axis in told.shape.dim]
    return dtype_name(told.elem_type), shape_text(axes if told.HasField("shape") else None)


def dtype_name(number: int) -> str:
    return DTYPES.Name(number).lower() if number in DTYPES.values() else f"dtype {number}"


def bits(number: int) -> int:
    """The size of an element."""
    if number in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4, onnx.TensorProto.FLOAT4E2M1):
        return 4
    try:
        return onnx.helper.tensor_dtype_to_np_dtype(number).itemsize * 8
    except KeyError:
        return 8


def ops(model: onnx.ModelProto) -> list[tuple[str, ...]]:
    """Each op with its verdict: has onnx a schema of it at the model's opset, and ONNX Runtime a kernel?"""
    opsets = {told.domain.removesuffix("ai.onnx"): told.version for told in model.opset_import}
    own = {(function.domain, function.name) for function in model.functions}
    kernels = defaultdict(list)
    for kernel in get_all_opkernel_def():
        kernels[kernel.domain, kernel.op_name].append(kernel.version_range)
    found = defaultdict(list)
    for node in (node for graph in all_graphs(model) for node in graph.node):
        found[node.domain.removesuffix("ai.onnx"), node.op_type].append(node.name or node.op_type)
    rows = []
    for (domain, op), names in sorted(found.items()):
        verdict, why = RUNS, ""
        opset = opsets.get(domain)
        if (domain, op) in own:
            why = "a function of the model's own"
        elif opset is None:
            verdict, why = IMPOSSIBLE, "the model doesn't say which opset of this domain it means"
        else:
            try:
                schema = onnx.defs.get_schema(op, opset, domain)
                since = schema.since_version
                body = schema.has_function or schema.has_context_dependent_function
                if schema.deprecated:
                    verdict, why = IMPOSSIBLE, f"deprecated since opset {since}"
            except onnx.defs.SchemaError:
                since, body = opset, False
                if not kernels[domain, op]:
                    verdict, why = IMPOSSIBLE, "no schema in onnx's registry, no kernel in ONNX Runtime"
            fitting = any(first <= since <= last for first, last in kernels[domain, op])
            if verdict == RUNS and not fitting and not body:
                verdict, why = LACKING, f"ONNX Runtime has none for opset {since}"
        rows.append((op, domain or "ai.onnx", str(opset), str(len(names)), verdict, why,
                     places(names) if verdict != RUNS else ""))
    return sorted(rows, key=lambda row: ((RUNS, LACKING, IMPOSSIBLE).index(row[4]), row))


def session_flaw(model: onnx.ModelProto) -> str:
    """Why ONNX Runtime makes no session of the model, or nothing. No file is read, nothing is computed."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    given = {port.name for port in bare.graph.input}
    for tensor in [tensor for tensor in bare.graph.initializer if tensor.external_data]:
        bare.graph.initializer.remove(tensor)
        if tensor.name not in given:
            bare.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    for tensor in all_tensors(bare):
        if tensor.external_data:  # of inner graphs, which have no inputs of their own to be
            return "not tried, as weights of an inner graph lie in another file"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    try:
        onnxruntime.InferenceSession(bare.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises classes of its own
        return " ".join(re.sub(r"/onnxruntime_src/.*?\) (?=[A-Z])", "", str(error)).split())[:600]
    return ""


def advice(judged: list[tuple[str, ...]], flaw: str, absent: list[str]) -> list[str]:
    """What to do next about a model."""
    lacking = [row[0] for row in judged if row[4] == LACKING]
    impossible = [f"{row[0]} of {row[1]}" for row in judged if row[4] == IMPOSSIBLE]
    said = []
    if absent:
        said.append(f"Put {', '.join(absent)} beside the model: its weights are there.")
    if lacking:
        said.append(f"{', '.join(lacking)}: convert the model to another opset with onnx.version_converter, or write "
                    "it in terms of ops that have a kernel.")
    if impossible:
        said.append(f"{', '.join(impossible)}: nobody runs it as it stands: add it as a function of the model's own "
                    "(onnx.helper.make_function), or replace it before the export.")
    if flaw and not lacking and not impossible:
        said.append("Every op is known, but not as it is used: run onnx.checker.check_model with full_check=True, "
                    "which says where types or shapes contradict one another.")
    return said or ["Every op has a kernel: optimize it, and compare its answers with the original's."]


if __name__ == "__main__":
    answer(model_report, Path(sys.argv[1]))
