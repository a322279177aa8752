"""Stage quantize: each optimized component in each variant of the recipe, <component>-<variant>.onnx.

Methods: `none` copies; `half-weights` stores weights as float16 and widens them when
loaded; `static-qdq` calibrates and quantizes to 8 bits with ONNX Runtime's quantizer;
`byte-weights` stores the weights of products and convolutions in 8 bits and widens them when loaded;
`dynamic-columns` multiplies those of products in 8 bits; `dynamic-blocks` does so with those of LSTMs too, for ONNX
Runtime's kernels.
Weights that lie beside a graph lie beside what is made of it.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.calibrate import TensorsData, save_tensors_data
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from scripts import calibrate, graphs, job, kernels

# Nodes that neither carry weights nor mix positions: behind the last weighted node they only shape its result.
BLOCK = 64  # weights with a scale of their own: less is finer, and slower
LARGE = 1024  # numbers from which on halving what is no weight is worth it
WEIGHTED = {"MatMul", "Gemm", "Conv", "ConvTranspose", "LSTM", "GRU", "RNN", "Gather"}  # ops that add up many products
SHAPING = {"Softmax", "Sigmoid", "Transpose", "Reshape", "Identity"}


def quantize(task: job.Job) -> None:
    logging.getLogger().setLevel(logging.ERROR)  # the quantizer recommends a pass that optimize already made
    for component in task.exported():
        source = task.inputs["optimize"] / f"{component}.onnx"
        for variant, how in task.variants(component).items():
            method = method_of(how, component, source)
            job.progress(f"{component}: {variant}, {how['about'] if method == how['method'] else method}")
            METHODS[method](task, component, source, task.out / f"{component}-{variant}.onnx")


def method_of(how: dict[str, Any], component: str, source: Path) -> str:
    """By which method a variant is made of a component: one for it, or for graphs like its, or the variant's own."""
    if "depthwise" in how and any(
            attribute.name == "group" and attribute.i > 1 for node in graphs.load(source, weights=False).graph.node
            if node.op_type == "Conv" for attribute in node.attribute):
        return how["depthwise"]
    return how.get("instead", {}).get(component, how["method"])


def copy(task: job.Job, component: str, source: Path, target: Path) -> None:
    graphs.hand_on(graphs.load(source, weights=False), source, target)


def half_weights(task: job.Job, component: str, source: Path, target: Path) -> None:
    """Store each float32 array that float16 can hold as such, followed by a Cast that runtimes fold away.

    Weights of products are such where none is too large; other arrays where they are large, and none of their numbers
    becomes 0, as a divisor or an epsilon in a logarithm must not. Vectors and single numbers stay as they are.
    """
    model, casts = graphs.load(source), []
    every = (model.graph, *graphs.inner_graphs(model.graph))
    weights = {name for graph in every for node in graph.node if node.op_type in WEIGHTED for name in node.input}
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        name, array = tensor.name, onnx.numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        too_large = bool((np.isinf(half) & np.isfinite(array)).any())
        sound = name in weights or (array.size >= LARGE and not ((half == 0) & (array != 0)).any())
        if too_large or not sound:
            continue
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, name + ".half"))
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], name + ".widen", to=onnx.TensorProto.FLOAT))
    put_first(model, casts)
    graphs.save(model, target, beside=lies_beside(source))


def byte_weights(task: job.Job, component: str, source: Path, target: Path) -> None:
    """Store the weights of each product and convolution as int8 with a scale a column, or a filter, followed by what
    runtimes fold away."""
    model, nodes = graphs.load(source), []
    for name in to_bytes(model, ("MatMul", "Conv")):
        nodes += [onnx.helper.make_node("Cast", [name + ".byte"], [name + ".wide"], to=onnx.TensorProto.FLOAT),
                  onnx.helper.make_node("Mul", [name + ".wide", name + ".scale"], [name])]
    put_first(model, nodes)
    graphs.save(model, target, beside=lies_beside(source))


def dynamic_columns(task: job.Job, component: str, source: Path, target: Path) -> None:
    """Multiply in 8 bits: weights signed with a scale a column, the other factor unsigned, rounded as it comes.

    In operators of ONNX itself. What several products have in common is rounded once.
    """
    model = graphs.load(source)
    quantized, rounded, nodes = to_bytes(model), set(), []
    for node in model.graph.node:
        if node.op_type != "MatMul" or node.input[1] not in quantized:
            nodes.append(node)
            continue
        (x, weight), [product] = node.input, node.output
        if x not in rounded:
            rounded.add(x)
            nodes.append(onnx.helper.make_node("DynamicQuantizeLinear", [x], [x + ".byte", x + ".scale", x + ".zero"]))
        nodes += [
            onnx.helper.make_node("MatMulInteger", [x + ".byte", weight + ".byte", x + ".zero"], [product + ".sum"]),
            onnx.helper.make_node("Cast", [product + ".sum"], [product + ".wide"], to=onnx.TensorProto.FLOAT),
            onnx.helper.make_node("Mul", [x + ".scale", weight + ".scale"], [product + ".scale"]),
            onnx.helper.make_node("Mul", [product + ".wide", product + ".scale"], [product])]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    graphs.save(model, target, beside=lies_beside(source))


def to_bytes(model: onnx.ModelProto, ops: Sequence[str] = ("MatMul",)) -> list[str]:
    """Make int8 NAME.byte with a float32 NAME.scale a column of the matrix NAME of each product, or a filter of the
    weights NAME of each convolution, as the ops have it; returns the names.

    Raises Refusal where there is none.
    """
    users = {node.input[1]: node.op_type for node in model.graph.node if node.op_type in ops}
    factors = [tensor for tensor in model.graph.initializer
               if users.get(tensor.name) == "Conv" or (tensor.name in users and len(tensor.dims) == 2)]
    names = [tensor.name for tensor in factors]
    if not names:
        raise job.Refusal(f"expected {' or '.join(ops)} with weights to store in 8 bits, found none: name another "
                          "method for the variant in the recipe, or leave it out")
    for name, tensor in zip(names, factors):
        array = onnx.numpy_helper.to_array(tensor)
        if users[name] == "Conv":
            largest = np.abs(array).max(axis=tuple(range(1, array.ndim)), keepdims=True)
        else:
            largest = np.abs(array).max(axis=0)
        scale = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.round(array / scale).astype(np.int8), name + ".byte"))
        model.graph.initializer.append(onnx.numpy_helper.from_array(scale, name + ".scale"))
    return names


def put_first(model: onnx.ModelProto, before: list[onnx.NodeProto]) -> None:
    """Put nodes before all others of a model."""
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(before + nodes)


def lies_beside(source: Path) -> bool:
    return source.with_suffix(graphs.BESIDE).is_file()


def static_qdq(task: job.Job, component: str, source: Path, target: Path) -> None:
    """8-bit weights per channel (signed), 8-bit activations (unsigned), ranges from the model's own inputs.

    Unsigned by signed is the pair that CPUs multiply fastest. The last weighted node and
    what follows it stay in float: they set the resolution of the result.
    """
    model = onnx.load(source)
    batches = list(task.module("inputs").calibration(component))
    operators = [calibrate.operator(op, how, kernel)
                 for op, (how, kernel) in kernels.of(task.model, task.recipe).items()]
    ranges = calibrate.ranges(model, batches, job.progress, operators)
    endless = {name for name, bounds in ranges.items() if not np.isfinite(bounds).all()}  # by masks of -inf
    ranges = {name: bounds for name, bounds in ranges.items() if name not in endless}
    masked = {node.name for node in model.graph.node if endless & {*node.input, *node.output}}
    cache = target.with_suffix(".ranges.json")
    save_tensors_data(TensorsData(CalibrationMethod.MinMax, {
        name: (np.array(low, np.float32), np.array(high, np.float32)) for name, (low, high) in ranges.items()}), cache)
    quantize_static(
        model, target, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True,
        nodes_to_exclude=sorted(last_nodes(model.graph) | masked), calibration_cache_path=cache)
    cache.unlink()
    quantized = onnx.load(target)
    graphs.strip(quantized)
    onnx.save(quantized, target)


def last_nodes(graph: onnx.GraphProto) -> set[str]:
    """Names of the nodes from the last weighted ones to the graph's outputs."""
    producers = {output: node for node in graph.node for output in node.output}
    last, frontier = set(), [port.name for port in graph.output]
    while frontier:
        node = producers.get(frontier.pop())
        if node is None or node.name in last:
            continue
        last.add(node.name)
        if node.op_type in SHAPING:
            frontier.extend(node.input)
    return last


def dynamic_blocks(task: job.Job, component: str, source: Path, target: Path) -> None:
    """8-bit weights, signed; activations are rounded to 8 bits as they come, so that nothing is calibrated.

    An LSTM becomes DynamicQuantizeLSTM, a scale a gate's row; a product with weights becomes
    MatMulNBits, a scale for each BLOCK of a column, which multiplies 8 by 8 bits.
    """
    quantize_dynamic(source, target, op_types_to_quantize=["LSTM"], per_channel=True, weight_type=QuantType.QInt8)
    products = MatMulNBitsQuantizer(onnx.load(target), bits=8, block_size=BLOCK, is_symmetric=True, accuracy_level=4)
    products.process()
    quantized = products.model.model
    graphs.name_ports(quantized.graph, task.exported()[component])
    graphs.strip(quantized)
    onnx.save(quantized, target)


METHODS: dict[str, Callable[[job.Job, str, Path, Path], Any]] = {
    "none": copy,
    "half-weights": half_weights,
    "byte-weights": byte_weights,
    "dynamic-columns": dynamic_columns,
    "static-qdq": static_qdq,
    "dynamic-blocks": dynamic_blocks,
}

if __name__ == "__main__":
    job.run(quantize)
