"""An ONNX graph as an SVG, in the manner of Netron: boxes by the kind of op, shapes at the edges, loops' bodies below.

It is laid out by grandalf (K. Sugiyama, S. Tagawa, M. Toda, 'Methods for visual understanding of hierarchical system
structures', 1981). Equal graphs give equal bytes; nothing of a graph's is taken for markup.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import onnx
from onnx.shape_inference import InferenceError, infer_shapes

from scripts.inspection.onnx import dtype_name, type_of
from scripts.inspection.report import shape_text
from scripts.job import Refusal
from scripts.layering import Box, place

MOST_NODES = 5_000  # of a picture: browsers draw no more
MOST_SIGNS = 40  # of a text in a box
MOST_VALUES = 4  # of a weight that is shown by its values
VALUES = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64, onnx.TensorProto.INT32}
MOST_TITLE = 2000  # of a tooltip
LINE, PAD = 15, 9
WIDE, WIDER = 7, 9  # of a letter in a box, of one in its first line; those of wide fonts
GAP = 60  # between sections
COLOURS = {  # of Netron's families of ops
    "layer": "#33557f", "activation": "#6f2a2a", "normalization": "#33553f", "pool": "#33553f", "shape": "#6b4f2b",
    "tensor": "#5a4a6e", "loop": "#7a3b6c", "quantization": "#4a4a4a", "": "#2f2f2f"}
FAMILIES = {
    "layer": "Conv ConvTranspose ConvInteger QLinearConv MatMul MatMulInteger QLinearMatMul Gemm LSTM GRU RNN "
             "Attention MatMulNBits DynamicQuantizeLSTM DynamicQuantizeMatMul MultiHeadAttention Einsum STFT DFT",
    "activation": "Relu LeakyRelu PRelu Elu Selu Gelu Sigmoid HardSigmoid Tanh Softmax LogSoftmax Softplus Softsign "
                  "Clip Sin Erf Exp Log",
    "normalization": "BatchNormalization LayerNormalization InstanceNormalization RMSNormalization "
                     "GroupNormalization LpNormalization SimplifiedLayerNormalization",
    "pool": "MaxPool AveragePool GlobalAveragePool GlobalMaxPool ReduceMean ReduceSum ReduceMax ReduceMin ReduceL2 "
            "ArgMax ArgMin CumSum TopK",
    "shape": "Reshape Transpose Squeeze Unsqueeze Flatten Expand Pad Tile Shape Size DepthToSpace SpaceToDepth",
    "tensor": "Concat Split Slice Gather GatherElements GatherND ScatterND ScatterElements Where OneHot Range "
              "ConstantOfShape Cast CastLike",
    "loop": "Loop Scan If",
    "quantization": "QuantizeLinear DequantizeLinear DynamicQuantizeLinear",
}
FAMILY = {op: family for family, ops in FAMILIES.items() for op in ops.split()}
ATTRIBUTES = ("kernel_shape", "dilations", "strides", "pads", "auto_pad", "group", "direction", "hidden_size", "perm",
              "axis", "axes", "to", "keepdims", "alpha", "epsilon", "approximate", "q_num_heads", "kv_num_heads",
              "block_size", "bits", "mode", "equation")
UNNAMED = re.compile(r"\bunk__\d+\b")  # an axis, by onnx's inference
DEFAULTS = {"dilations": {1}, "strides": {1}, "pads": {0}, "group": {1}}
STYLE = ("text{font:11px sans-serif;fill:#fff}.op{font-size:13px;font-weight:600}.edge{fill:none;stroke:#555}"
         ".shape{fill:#777;font-size:10px}.port{fill:#222}"
         ".title{fill:#222;font-size:18px;font-weight:600}.body{fill:#222;font-size:15px;font-weight:600}"
         ".frame{fill:#faf7fb;stroke:#7a3b6c;stroke-dasharray:5 4}")


class Section(NamedTuple):
    """A graph of its own: the model's, or the body of a loop or a branch."""

    title: str
    graph: onnx.GraphProto
    weights: dict[str, str]  # what there is to say of each, those of the graphs around it too


class Text(NamedTuple):
    signs: str
    kind: str  # its class in the style


def draw(model: onnx.ModelProto, title: str) -> str:
    """The picture of a model. Raises Refusal on one of too many nodes."""
    shapes = with_shapes(model)
    parts = list(sections(title, shapes.graph, {}))
    if (count := sum(len(part.graph.node) for part in parts)) > MOST_NODES:
        raise Refusal(f"{title}: expected at most {MOST_NODES:,} nodes, found {count:,}: draw a piece of it, which "
                      "make extract cuts")
    top, width, drawn = PAD, 0.0, []
    for number, part in enumerate(parts):
        lines, wide, high = section(part, number)
        drawn += [f'<g transform="translate({PAD},{top:g})">', *lines, "</g>"]
        top, width = top + high + GAP, max(width, wide)
    width, height = math.ceil(width + 2 * PAD), math.ceil(top - GAP + PAD)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f"<title>{quoted(title)}</title><style>{STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0,0L8,4L0,8z" fill="#555"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>', *drawn, "</svg>"]) + "\n"


def with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the shapes of its tensors as far as onnx infers them."""
    try:
        return infer_shapes(model, data_prop=True)
    except (InferenceError, ValueError, RuntimeError):  # of a graph that contradicts itself
        return model


def sections(title: str, graph: onnx.GraphProto, around: dict[str, str]) -> Iterator[Section]:
    """The graph, and below it every body of its loops and branches."""
    weights = around | {tensor.name: tensor_text(tensor) for tensor in graph.initializer} | {
        node.output[0]: constant_text(node) for node in graph.node if node.op_type == "Constant" and node.output}
    yield Section(title, graph, weights)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from sections(f"{node.op_type} {node.name}: {attribute.name}", attribute.g, weights)


def tensor_text(tensor: onnx.TensorProto) -> str:
    """The few values of a tensor, or its shape; and its dtype, where it isn't float."""
    size, dtype = math.prod(tensor.dims), dtype_name(tensor.data_type)
    if size <= MOST_VALUES and not tensor.external_data and tensor.data_type in VALUES:
        try:
            return "= " + " ".join(f"{value:g}" for value in onnx.numpy_helper.to_array(tensor).flat)
        except ValueError:  # of data that aren't of the shape
            pass
    return " ".join([shape_text(tensor.dims), *([dtype] if dtype != "float" else [])])


def constant_text(node: onnx.NodeProto) -> str:
    for attribute in node.attribute:
        return tensor_text(attribute.t) if attribute.name == "value" else f"= {attribute_text(attribute)}"
    return ""


def section(part: Section, number: int) -> tuple[list[str], float, float]:
    """The lines of a section, its width and its height."""
    graph, weights = part.graph, part.weights
    known = {port.name: type_of(port) for port in (*graph.value_info, *graph.input, *graph.output)}
    nodes = [node for node in graph.node if node.op_type != "Constant"]
    boxes, makers, edges, labels = [], {}, [], defaultdict(list)
    for port in graph.input:
        if port.name not in weights:
            makers[port.name] = len(boxes)
            boxes.append(port_box(port.name, known))
    for node in nodes:
        for name in node.output:
            makers[name] = len(boxes)
        boxes.append(node_box(node, weights, makers))
    for index, node in enumerate(nodes, len(boxes) - len(nodes)):
        for name in dict.fromkeys((*node.input, *outer_reads(node))):
            maker = makers.get(name, index)
            if maker < index:
                edges.append((maker, index))
                if maker >= len(boxes) - len(nodes):
                    labels[maker].append(edge_text(name, known))
    for port in graph.output:
        if port.name in makers:
            edges.append((makers[port.name], len(boxes)))
        boxes.append(port_box(port.name, known))
    routes, width, height = place(boxes, edges)
    head = 34
    corner = min(((one.y - one.height / 2, one.x - one.width / 2) for one in boxes), default=(0, 0))[1]
    width = max(width, corner + text_width(part.title))
    lines = []
    if number:
        lines.append(f'<rect class="frame" x="-4" y="0" width="{width + 8:g}" height="{height + head + 4:g}" rx="8"/>')
    kind = "body" if number else "title"
    lines += [f'<text class="{kind}" x="{max(corner, 4):g}" y="22">{quoted(part.title)}</text>',
              f'<g transform="translate(0,{head})">']
    lines += [f'<path class="edge" marker-end="url(#tip)" d="{curve(route)}"/>' for route in routes]
    lines += [line for box in boxes for line in shown(box)]
    for index, texts in labels.items():
        one, text = boxes[index], ", ".join(filter(None, dict.fromkeys(texts)))
        if text:
            place_of_text = f'x="{one.x + 5:g}" y="{one.y + one.height / 2 + 13:g}"'
            lines.append(f'<text class="shape" {place_of_text}>{quoted(text)}</text>')
    return [*lines, "</g>"], width + 2 * PAD, height + head + PAD


def text_width(text: str) -> float:
    return len(text) * 9.5


def outer_reads(node: onnx.NodeProto) -> Iterator[str]:
    """What the bodies of a node read; of it, only what the graph around makes is drawn as an edge."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            own = {port.name for port in attribute.g.input} | {name for one in attribute.g.node for name in one.output}
            for one in attribute.g.node:
                yield from (name for name in (*one.input, *outer_reads(one)) if name not in own)


def port_box(name: str, known: dict[str, tuple[str, str]]) -> Box:
    told = " ".join(known.get(name, ())).replace(" unknown rank", "")
    return box([Text(cut(name), "op port"), *([Text(cut(told), "port")] if told else [])], "#e2e2e2", name)


def node_box(node: onnx.NodeProto, weights: dict[str, str], makers: dict[str, int]) -> Box:
    """Its op, its weights, what its graph takes from around itself, and the attributes that matter."""
    texts = [Text(cut(node.op_type), "op")]
    for name in filter(None, node.input):
        if name not in makers:
            told = cut(weights.get(name, ""))
            texts.append(Text(f"{ended(last(name), MOST_SIGNS - len(told))} {told}" if told else f"↑ {cut(name)}", ""))
    for attribute in sorted(node.attribute, key=lambda one: (*ATTRIBUTES, one.name).index(one.name)):
        if attribute.type == onnx.AttributeProto.GRAPH:
            texts.append(Text(f"{cut(attribute.name)}: see below", ""))
        elif attribute.name in ATTRIBUTES and (value := attribute_text(attribute)):
            texts.append(Text(cut(f"{attribute.name.removesuffix('_shape')} {value}"), ""))
    title = [f"{node.op_type} {node.name}", *(f"in: {name}" for name in node.input if name),
             *(f"out: {name}" for name in node.output if name)]
    return box(texts, COLOURS[FAMILY.get(node.op_type, "")], "\n".join(title))


def box(texts: list[Text], colour: str, title: str) -> Box:
    width = max(len(text.signs) * (WIDER if text.kind.startswith("op") else WIDE) for text in texts) + 2 * PAD
    return Box(round(max(width, 56)), LINE * len(texts) + PAD, texts, colour, title)


def last(name: str) -> str:
    """What tells a weight from the others of its node: the last parts of its name, or of those joined in it."""
    parts = [part.split("/") for part in name.split("+")]
    return "+".join("/".join(part[-2:] if len(parts) == 1 else part[-1:]) for part in parts).removesuffix(":0")


def attribute_text(attribute: onnx.AttributeProto) -> str:
    """Its value, or nothing where it says no more than the default."""
    value: Any = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    values = list(value) if isinstance(value, (list, tuple)) or hasattr(value, "__len__") else [value]
    if not all(isinstance(one, (int, float)) for one in values) or set(values) <= DEFAULTS.get(attribute.name, set()):
        return ""
    if attribute.name == "to":
        return dtype_name(value)
    return "×".join(f"{one:g}" for one in values) if attribute.name == "kernel_shape" else " ".join(
        f"{one:g}" for one in values)


def edge_text(name: str, known: dict[str, tuple[str, str]]) -> str:
    dtype, shape = known.get(name, ("", ""))
    shape = UNNAMED.sub("?", shape)
    return "" if not shape or shape == "unknown rank" else cut(shape if dtype == "float" else f"{shape} {dtype}")


def shown(one: Box) -> Iterator[str]:
    """The lines of a box where it was put."""
    left, top = one.x - one.width / 2, one.y - one.height / 2
    yield (f'<g><title>{quoted(one.title[:MOST_TITLE])}</title><rect x="{left:g}" y="{top:g}" width="{one.width:g}" '
           f'height="{one.height:g}" rx="6" fill="{one.colour}"/>')
    for number, text in enumerate(one.texts):
        kind = f' class="{text.kind}"' if text.kind else ""
        yield f'<text{kind} x="{left + PAD:g}" y="{top + LINE * number + 16:g}">{quoted(text.signs)}</text>'
    yield "</g>"


def curve(route: list[tuple[float, float]]) -> str:
    """A path that leaves and enters each point from straight above; points that repeat would turn its arrow aside."""
    (x, y), *others = dict.fromkeys(route)
    path = f"M{x:g},{y:g}"
    for right, below in others:
        middle = (y + below) / 2
        path += f"V{below:g}" if x == right else f"C{x:g},{middle:g} {right:g},{middle:g} {right:g},{below:g}"
        x, y = right, below
    return path


def cut(text: str) -> str:
    return text if len(text) <= MOST_SIGNS else f"{text[:MOST_SIGNS - 1]}…"


def ended(text: str, most: int) -> str:
    """The end of a name, which tells it from its neighbours'."""
    return text if len(text) <= most else f"…{text[1 - most:] if most > 1 else ''}"


def quoted(text: str) -> str:
    """A text of a file's in XML, which has no place for most of the unprintable signs."""
    return escape("".join(sign if sign.isprintable() or sign == "\n" else "\N{REPLACEMENT CHARACTER}" for sign in text),
                  {'"': "&quot;"})
