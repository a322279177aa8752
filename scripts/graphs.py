"""What several stages do to ONNX graphs."""

from collections.abc import Iterator
from typing import Any

import onnx
import onnx.inliner
import onnxscript.optimizer

from scripts.job import Refusal

ELEMENT_TYPES = {"float32": onnx.TensorProto.FLOAT, "int64": onnx.TensorProto.INT64}


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
        ports.extend(onnx.helper.make_tensor_value_info(p["name"], ELEMENT_TYPES[p["dtype"]], p["shape"])
                     for p in described)


def inline_steps(loop: onnx.ModelProto, steps: dict[str, onnx.ModelProto]) -> onnx.ModelProto:
    """Put each step's own graph in the place of the function of its name in a loop's model.

    The steps' weights become initializers of the graphs that use them, the loops' bodies: ONNX
    Runtime rearranges weights for its fast kernels only where it finds them there.
    """
    model = onnxscript.optimizer.optimize(loop, inline=False)
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


def inner_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The bodies of a graph's loops and branches, at every depth."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield attribute.g
                yield from inner_graphs(attribute.g)
