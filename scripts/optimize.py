"""Stage optimize: each exported component as the smallest graph that computes the same in float32.

Constants folded and dead nodes dropped (onnxscript), paddings written out instead of the
deprecated auto_pad where no size changes them, what a loop only hands on read from outside of it,
dense layers as products and sums, ports given the recipe's symbolic shapes, and everything that
says where and how the file was made left behind. A graph that onnxscript breaks goes without it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from onnx.helper import make_attribute, make_node
from onnx.reference import ReferenceEvaluator

from scripts import graphs, job

CUTS = {"Slice", "Split", "Transpose"}  # what cells of loops do to their weights before they multiply by them


def optimize(task: job.Job) -> None:
    for name, component in task.exported().items():
        job.progress(f"optimizing {name}")
        source = task.inputs["export"] / f"{name}.onnx"
        graphs.hand_on(optimized(name, source, component), source, task.out / f"{name}.onnx")


def optimized(name: str, source: Path, component: dict[str, Any]) -> onnx.ModelProto:
    """The smallest graph that computes the same, without the weights that lie beside the source.

    Raises Refusal where the source is no valid graph itself.
    """
    flaw = ""
    for shrink in (graphs.shrunk, onnx.inliner.inline_local_functions):
        if flaw:
            job.progress(f"{name}: goes without onnxscript's optimizer, which breaks it ({flaw})")
        model = graphs.load(source)
        write_paddings(model.graph)
        write_resizes(model.graph)
        read_from_outside(model.graph)
        cut_weights(model)
        model = shrink(model)
        write_products(model.graph)
        graphs.refer(model, graphs.load(source, weights=False))
        graphs.name_ports(model.graph, component)
        graphs.strip(model)
        if graphs.beside(model):  # a linked file is an attack to the checker; verify has it check the copies
            return model
        try:
            onnx.checker.check_model(model, full_check=True)
            return model
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            flaw = " ".join(str(error).split())[:300]
    raise job.Refusal(f"{name}: expected a valid graph of the stage export, found one that onnx.checker refuses "
                      f"({flaw}): correct what the model's export.py writes")


def write_paddings(graph: onnx.GraphProto) -> None:
    """Replace auto_pad=SAME_UPPER by the pads that it means where they are the same at every size; and by nodes that
    pad, where ONNX Runtime refuses it or gets it wrong: where windows are dilated, or leave numbers out between them.
    """
    for part in graphs.inside_out(graph):
        nodes = []
        for node in part.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            after = []
            if attributes.get("auto_pad") == b"SAME_UPPER" and "kernel_shape" in attributes:
                kernel = np.array(attributes["kernel_shape"])
                strides, dilations = (np.array(attributes.get(name, np.ones_like(kernel)))
                                      for name in ("strides", "dilations"))
                total, padded = (kernel - 1) * dilations, node.op_type in ("Conv", "MaxPool", "AveragePool")
                if ((strides == 1) | (total == 0)).all():
                    set_pads(node, [*(total // 2), *(total - total // 2)])
                elif padded and ((total + 1 < strides) | (dilations != 1)).any():
                    before, after = padding(node, strides, total)
                    nodes += before
                    set_pads(node, [])
            nodes += [node, *after]
        del part.node[:]
        part.node.extend(nodes)


def set_pads(node: onnx.NodeProto, pads: list[int]) -> None:
    """Give a node these pads instead of its auto_pad: none, or those before all axes and then those behind."""
    kept = [a for a in node.attribute if a.name not in ("auto_pad", "pads")]
    del node.attribute[:]
    node.attribute.extend(kept)
    if pads:
        node.attribute.append(make_attribute("pads", pads))


def padding(node: onnx.NodeProto, strides: np.ndarray,
            reach: np.ndarray) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
    """The nodes that pad what a node reads as SAME_UPPER asks, and those that make its result of what the node returns.

    reach: how many numbers a window spans, less one, by axis. Of n numbers there come ceil(n / stride) out
    (https://onnx.ai/onnx/operators/onnx__Conv.html), so max(0, (ceil(n / stride) - 1) * stride + reach + 1 - n) are
    lacking; the odd one comes behind. Among the largest numbers padding is -inf; a mean is that of all over the share
    that isn't padding.
    """
    x, name, before, after = node.input[0], f"{node.output[0]}.same", [], []

    def add(nodes: list[onnx.NodeProto], op: str, *inputs: str | list[int], **attributes: Any) -> str:
        read = []
        for given in inputs:
            if not isinstance(given, str):
                given = add(nodes, "Constant", value_ints=given)
            read.append(given)
        nodes.append(make_node(op, read, [f"{name}.{len(before) + len(after)}"], **attributes))
        return nodes[-1].output[0]

    sizes = add(before, "Shape", x, start=2)
    # (ceil(n / stride) - 1) * stride is n - 1 less the rest of n - 1.
    rest = add(before, "Mod", add(before, "Sub", sizes, [1]), strides.tolist())
    lacking = add(before, "Max", add(before, "Sub", reach.tolist(), rest), [0])
    half = add(before, "Div", lacking, [2])
    pads = add(before, "Concat", [0, 0], half, [0, 0], add(before, "Sub", lacking, half), axis=0)
    filled = [add(before, "Constant", value_float=-np.inf)] if node.op_type == "MaxPool" else []
    node.input[0] = add(before, "Pad", x, pads, *filled)
    if node.op_type == "AveragePool":
        one = onnx.numpy_helper.from_array(np.ones(1, np.float32))
        ones = add(after, "ConstantOfShape", add(after, "Concat", [1, 1], sizes, axis=0), value=one)
        share = onnx.NodeProto()
        share.CopyFrom(node)
        set_pads(share, [])
        share.name, share.input[0], share.output[0] = f"{name}.share", add(after, "Pad", ones, pads), f"{name}.share"
        after.append(share)
        after.append(make_node("Div", [f"{name}.mean", f"{name}.share"], node.output, f"{name}.mean"))
        node.output[0] = f"{name}.mean"
    return before, after


def write_resizes(graph: onnx.GraphProto) -> None:
    """Have what takes the nearest number as TensorFlow's, floor((i + 0.5) / scale), say so as opset 13 and later do,
    which calibration needs: i + 0.5 over scale, less 0.5, rounded, halves up.
    """
    for part in (graph, *graphs.inner_graphs(graph)):
        for node in part.node:
            attributes = {a.name: a for a in node.attribute if node.op_type == "Resize"}
            told = [attributes[name].s if name in attributes else b"" for name in (
                "coordinate_transformation_mode", "nearest_mode")]
            if told == [b"tf_half_pixel_for_nn", b"floor"]:
                attributes["coordinate_transformation_mode"].s = b"half_pixel"
                attributes["nearest_mode"].s = b"round_prefer_ceil"


def read_from_outside(graph: onnx.GraphProto) -> None:
    """Have the bodies of loops read from outside what they only hand on from turn to turn, as weights are, so that
    what is done to weights is done to theirs too.
    """
    for node in graph.node:
        for body in graphs.bodies(node):
            read_from_outside(body)
    for node in [node for node in graph.node if node.op_type == "Loop"]:
        [body] = graphs.bodies(node)
        makers = {inner.output[0]: inner for inner in body.node if inner.op_type == "Identity"}
        for number in reversed(range(len(node.input) - 2)):
            outer, own, handed = node.input[2 + number], body.input[2 + number].name, body.output[1 + number].name
            origin = handed
            while origin in makers:
                origin = makers[origin].input[0]
            if origin != own or own in [port.name for i, port in enumerate(body.output) if i != 1 + number]:
                continue
            graphs.rename(body, {own: outer})
            del node.input[2 + number], body.input[2 + number], body.output[1 + number]
            result = node.output.pop(number)
            if result:
                graphs.rename(graph, {result: outer})
            if result in [port.name for port in graph.output]:
                graph.node.append(make_node("Identity", [outer], [result]))


def cut_weights(model: onnx.ModelProto) -> None:
    """Put the parts that bodies of loops cut out of weights, anew at every turn, beside the weights."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for body in graphs.inner_graphs(model.graph):
        kept, known = {port.name for port in body.output}, weights | {one.name: one for one in body.initializer}
        for node in list(body.node):
            read = {name: known.get(name) for name in node.input if name}
            if node.op_type not in CUTS or kept & set(node.output) or None in read.values():
                continue
            ports = [onnx.ValueInfoProto(name=name) for name in node.output]
            alone = onnx.helper.make_graph([node], "cut", [], ports, read.values())
            found = ReferenceEvaluator(onnx.helper.make_model(alone, opset_imports=model.opset_import)).run(None, {})
            parts = {name: f"{name}.cut.{len(weights)}" for name in node.output}
            for name, array in zip(parts.values(), found):
                model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
                weights[name] = known[name] = model.graph.initializer[-1]
            body.node.remove(node)
            graphs.rename(body, parts)
        still = {name for part in (body, *graphs.inner_graphs(body)) for node in part.node for name in node.input}
        for tensor in [tensor for tensor in body.initializer if tensor.name not in still | kept]:
            body.initializer.remove(tensor)


def write_products(graph: onnx.GraphProto) -> None:
    """Replace each Gemm of a weight by the MatMul and Add that it means, which every method of quantize knows."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    turned = set()
    for part in graphs.inside_out(graph):
        nodes = []
        for node in part.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            plain = {attributes.get(name, 1) for name in ("alpha", "beta")} == {1} and not attributes.get("transA")
            if node.op_type != "Gemm" or not plain or node.input[1] not in weights:
                nodes.append(node)
                continue
            x, weight, *bias = node.input
            if attributes.get("transB"):
                turned.add(weight)
                array, weight = onnx.numpy_helper.to_array(weights[weight]).T.copy(), f"{weight}.turned"
                if weight not in weights:
                    weights[weight] = onnx.numpy_helper.from_array(array, weight)
                    graph.initializer.append(weights[weight])
            product = f"{node.output[0]}.product" if bias else node.output[0]
            nodes.append(make_node("MatMul", [x, weight], [product], node.name))
            if bias:
                nodes.append(make_node("Add", [product, *bias], node.output, f"{node.name}.bias"))
        del part.node[:]
        part.node.extend(nodes)
    used = {name for part in (graph, *graphs.inner_graphs(graph)) for node in part.node for name in node.input}
    for name in turned - used:
        graph.initializer.remove(weights[name])


if __name__ == "__main__":
    job.run(optimize)
