"""What several stages do to ONNX graphs."""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx_ir as ir
import onnxscript.optimizer
from onnxscript import GraphBuilder, OpBuilder, rewriter
from onnxscript.rewriter import _pattern_ir
from onnxscript.rewriter.rules.common import slice_split_rule

from scripts.job import Refusal

DTYPES = {"float32": ir.DataType.FLOAT, "int64": ir.DataType.INT64}
BESIDE = ".weights"  # of a file beside a graph, for weights that several graphs share or that are too large for one
LEAST_BESIDE, ALIGNMENT = 1024, 4096  # bytes: of an array that goes there, and of what memory is mapped by


def build(described: dict[str, Any], opset: int, fill: Callable[..., Sequence[ir.Value]]) -> onnx.ModelProto:
    """The model of a component as the recipe describes it; fill(op, *inputs) computes its outputs."""
    graph = ir.Graph([], [], nodes=[], opset_imports={"": opset}, name="graph")
    builder = GraphBuilder(graph)
    inputs = [builder.input(port["name"], DTYPES[port["dtype"]], port["shape"])
              for port in described["inputs"]]
    for value, port in zip(fill(builder.op, *inputs), described["outputs"], strict=True):
        value.name, value.type = port["name"], ir.TensorType(DTYPES[port["dtype"]])
        value.shape = ir.Shape(port["shape"])
        graph.outputs.append(value)
    oldest = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)])
    return ir.serde.serialize_model(ir.Model(graph, ir_version=oldest))


def constant(op: OpBuilder, name: str, array: np.ndarray) -> ir.Value:
    """An array of the graph that is being built."""
    return op.builder.initializer(ir.tensor(np.ascontiguousarray(array), name=name), qualify=False)


def save(model: onnx.ModelProto, path: Path, beside: bool = False) -> None:
    """Write a model; beside: with its weights in a file of the same name beside it, which takes them out of it."""
    if beside:
        with path.with_suffix(BESIDE).open("wb") as file:
            for tensor in arrays(model):
                if len(tensor.raw_data) >= LEAST_BESIDE:
                    file.write(bytes(-file.tell() % ALIGNMENT))
                    place = {"location": path.with_suffix(BESIDE).name, "offset": file.tell(),
                             "length": file.write(tensor.raw_data)}
                    tensor.ClearField("raw_data")
                    tensor.data_location = onnx.TensorProto.EXTERNAL
                    tensor.external_data.extend(onnx.StringStringEntryProto(key=key, value=str(value))
                                                for key, value in place.items())
    onnx.save(model, path)


def load(path: Path, weights: bool = True) -> onnx.ModelProto:
    """A model with all its weights in it, or without those that lie beside it.

    The file beside may have several names, which onnx's own loader takes for an attack.
    """
    model = onnx.load(path, load_external_data=False)
    if weights and (name := beside(model)):
        with (path.parent / name).open("rb") as file:
            for tensor in arrays(model):
                if place := {entry.key: entry.value for entry in tensor.external_data}:
                    file.seek(int(place["offset"]))
                    tensor.raw_data = file.read(int(place["length"]))
                    del tensor.external_data[:]
                    tensor.ClearField("data_location")
    return model


def beside(model: onnx.ModelProto, renamed: str | None = None) -> str | None:
    """The name of the file with the weights that aren't in a model, if any are; renamed: what it is called from now."""
    entries = [entry for tensor in arrays(model) for entry in tensor.external_data if entry.key == "location"]
    for entry in entries if renamed else ():
        entry.value = renamed
    return entries[0].value if entries else None


def refer(model: onnx.ModelProto, bare: onnx.ModelProto) -> None:
    """Take those weights out of a model that lie beside another one with arrays of the same names, and the same."""
    places = {tensor.name: tensor for tensor in arrays(bare) if tensor.external_data}
    for tensor in arrays(model):
        if tensor.name in places:
            tensor.CopyFrom(places[tensor.name])


def hand_on(model: onnx.ModelProto, source: Path, target: Path) -> None:
    """Write a model that was loaded without its weights: the file beside the source is beside the target too."""
    if name := beside(model):
        os.link(source.parent / name, target.with_suffix(BESIDE))
        beside(model, renamed=target.with_suffix(BESIDE).name)
    onnx.save(model, target)


def arrays(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """The initializers of a model's graphs, at every depth."""
    for graph in (model.graph, *inner_graphs(model.graph)):
        yield from graph.initializer


def strip(model: onnx.ModelProto) -> None:
    """Remove the producer, texts, metadata and intermediate shapes: bytes that compute nothing."""
    for field in ("producer_name", "producer_version", "doc_string", "domain", "model_version"):
        model.ClearField(field)
    del model.metadata_props[:]
    graphs = [model.graph, *inner_graphs(model.graph)]
    nodes = [node for graph in graphs for node in graph.node]
    for node in nodes:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    for graph in graphs:
        graph.ClearField("doc_string")
        del graph.value_info[:]
        del graph.metadata_props[:]
    used = {node.domain for node in nodes} | {""}
    kept = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def name_ports(graph: onnx.GraphProto, component: dict[str, Any]) -> None:
    """Give the graph's inputs and outputs the recipe's order, dtypes and symbolic shapes."""
    for ports, described in ((graph.input, component["inputs"]), (graph.output, component["outputs"])):
        found, expected = [port.name for port in ports], [port["name"] for port in described]
        if found != expected:
            raise Refusal(f"expected the ports {expected} of the recipe, found {found} in the exported graph")
        del ports[:]
        ports.extend(onnx.helper.make_tensor_value_info(p["name"], DTYPES[p["dtype"]], p["shape"])
                     for p in described)


def inline_steps(loop: onnx.ModelProto, steps: dict[str, onnx.ModelProto]) -> onnx.ModelProto:
    """Put each step's own graph in the place of the function of its name in a loop's model.

    The steps' weights become initializers of the graphs that use them, the loops' bodies: ONNX
    Runtime rearranges weights for its fast kernels only where it finds them there.
    """
    model = shrunk(loop, inline=False)
    opsets = {opset.domain: opset for opset in model.opset_import}
    for placeholder in model.functions:
        if placeholder.name not in steps:
            continue
        step = steps[placeholder.name]
        weights = [onnx.helper.make_node("Constant", [], [tensor.name], value=tensor)
                   for tensor in step.graph.initializer]
        placeholder.CopyFrom(onnx.helper.make_function(
            placeholder.domain, placeholder.name,
            [port.name for port in step.graph.input], [port.name for port in step.graph.output],
            weights + list(step.graph.node), step.opset_import))
        opsets |= {opset.domain: opset for opset in step.opset_import}
        model.ir_version = step.ir_version
    del model.opset_import[:]
    model.opset_import.extend(opsets.values())
    model = onnx.inliner.inline_local_functions(model)
    for graph in inner_graphs(model.graph):
        for node in [node for node in graph.node if node.op_type == "Constant"]:
            tensor = graph.initializer.add()
            tensor.CopyFrom(node.attribute[0].t)
            tensor.name = node.output[0]
            graph.node.remove(node)
    strip(model)
    return model


def shrunk(model: onnx.ModelProto, inline: bool = True) -> onnx.ModelProto:
    """What onnxscript's optimizer makes of a model: constants folded, dead nodes dropped, functions in their places."""
    mend_rules()
    return onnxscript.optimizer.optimize(model, inline=inline)


@functools.cache
def mend_rules() -> None:
    """Have onnxscript's optimizer, which torch.onnx.export calls too, change nothing that a graph computes.

    Its rules take a number that is nearly 0 or 1 for it, and would leave an epsilon of 1e-10 out. Of halves by slices
    one of them makes a Split as opset 18 has it, behind nodes that read them.
    """
    rewriter._DEFAULT_REWRITE_RULES = tuple(
        rule for rule in rewriter._DEFAULT_REWRITE_RULES if rule is not slice_split_rule)
    for rule in rewriter._DEFAULT_REWRITE_RULES:
        for node in rule._target_pattern:
            for value in node.inputs:
                if isinstance(value, _pattern_ir.Constant):
                    value._rel_tol = value._abs_tol = 0


def inner_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The bodies of a graph's loops and branches, at every depth."""
    for node in graph.node:
        for body in bodies(node):
            yield body
            yield from inner_graphs(body)


def inside_out(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """The bodies in a graph, each before the one around it, and the graph itself: the order to write nodes anew in."""
    return [*reversed(list(inner_graphs(graph))), graph]


def bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The bodies of a loop or a branch; none of another node."""
    return [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]


def rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Have the nodes of a graph, and those of bodies in it, read other tensors: new names by old ones."""
    for part in (graph, *inner_graphs(graph)):
        for node in part.node:
            node.input[:] = [names.get(name, name) for name in node.input]
