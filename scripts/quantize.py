"""Stage quantize: each optimized component in each variant of the recipe, <component>-<variant>.onnx.

Methods: `none` copies; `half-weights` stores weights as float16 and widens them when
loaded; `static-qdq` calibrates and quantizes to 8 bits with ONNX Runtime's quantizer;
`byte-weights` stores the weights of products, convolutions and recurrences in 8 bits and widens them when loaded;
`dynamic-columns` multiplies those of products in 8 bits; `dynamic-blocks` does so with those of LSTMs too, for ONNX
Runtime's kernels, in bodies of loops, too. Both store other weights, of recurrences, as byte-weights does.
Weights that lie beside a graph lie beside what is made of it.
"""

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.calibrate import TensorsData, save_tensors_data
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from scripts import calibrate, graphs, job, kernels

BLOCK = 64  # weights with a scale of their own: less is finer, and slower
LEAST_ROWS = 18  # of a matrix that its last block, filled up, doesn't make larger than it is in float32
MUCH = 0.25  # of the bytes of an artifact's weights
LARGE = 1024  # numbers from which on halving what is no weight is worth it
WEIGHTED = {"MatMul", "Gemm", "Conv", "ConvTranspose", "LSTM", "GRU", "RNN", "Gather"}  # ops that add up many products
NORMS = {"BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization"}
RECURRENT = ("LSTM", "GRU", "RNN")
WEIGHTS_AT = {"MatMul": (1,), "Conv": (1,), **dict.fromkeys(RECURRENT, (1, 2))}  # inputs that may be stored in 8 bits
# Nodes that neither carry weights nor mix positions: behind the last weighted node they only shape its result.
SHAPING = {"Softmax", "Sigmoid", "Transpose", "Reshape", "Identity"}


def quantize(task: job.Job) -> None:
    logging.getLogger().setLevel(logging.ERROR)  # the quantizer recommends a pass that optimize already made
    for component in task.exported():
        source = task.inputs["optimize"] / f"{component}.onnx"
        for variant, how in task.variants(component).items():
            method = method_of(how, component, source)
            job.progress(f"{component}: {variant}, {how['about'] if method == how['method'] else method}")
            target = task.out / f"{component}-{variant}.onnx"
            METHODS[method](task, component, source, target)
            if method not in ("none", "half-weights") and (said := left_wide(target)):
                job.progress(f"{component}: {variant} {said}")


def left_wide(path: Path) -> str:
    """What a graph of 8 bits still holds of its weights in float32, if that is MUCH of them, or nothing."""
    model = graphs.load(path, weights=False)
    read, wide, whole, ops = readers(model), 0, 0, set()
    for tensor in graphs.arrays(model):
        size = math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        whole += size
        if tensor.data_type == onnx.TensorProto.FLOAT and (own := {op for op, _ in read[tensor.name]} & WEIGHTED):
            wide += size
            ops |= own
    return f"holds {wide / whole:.0%} of its weights in float32, those of {', '.join(sorted(ops))}" if (
        wide > MUCH * whole) else ""


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
    """Store the weights of each product, convolution and recurrence as int8 with a scale a column, a filter, or a
    gate's row, followed by what runtimes fold away."""
    model = graphs.load(source)
    names = to_bytes(model, found(model, ("MatMul", "Conv", *RECURRENT)))
    put_first(model, widened(names))
    graphs.save(model, target, beside=lies_beside(source))


def dynamic_columns(task: job.Job, component: str, source: Path, target: Path) -> None:
    """Multiply in 8 bits: weights signed with a scale a column, the other factor unsigned, rounded as it comes.

    In operators of ONNX itself. What several products have in common is rounded once. What else reads such weights
    gets them widened, and so do bodies of loops and several products with one weight: ONNX Runtime can't be asked for
    sums that don't saturate in those, and fails on these when it is asked.
    """
    model = graphs.load(source)
    weights = found(model, ("MatMul", *RECURRENT))
    names, rounded, nodes = to_bytes(model, weights), set(), []
    products = Counter(node.input[1] for node in model.graph.node if node.op_type == "MatMul")
    matrices = {name for name in names if weights[name] == "MatMul" and products[name] == 1}
    for node in model.graph.node:
        if node.op_type != "MatMul" or node.input[1] not in matrices:
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
    read = readers(model)
    put_first(model, widened(name for name in names if name in read))
    graphs.save(model, target, beside=lies_beside(source))


def readers(model: onnx.ModelProto) -> dict[str, list[tuple[str, int]]]:
    """Of each tensor that is read, the ops that do and at which of their inputs, bodies of loops too; an output of
    the graph is read by no op.
    """
    read: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for graph in (model.graph, *graphs.inner_graphs(model.graph)):
        for node in graph.node:
            for index, name in enumerate(node.input):
                read[name].append((node.op_type, index))
        for port in graph.output:
            read[port.name].append(("", 0))
    return read


def weights_of(model: onnx.ModelProto, ops: Iterable[str]) -> dict[str, str]:
    """The float32 arrays that can be stored in 8 bits for what reads them as its weights, by that op."""
    read, weights = readers(model), {}
    for tensor in model.graph.initializer:
        op = next((op for op, index in read[tensor.name] if op in ops and index in WEIGHTS_AT[op]), None)
        if op and tensor.data_type == onnx.TensorProto.FLOAT and (len(tensor.dims) == 2 or op != "MatMul"):
            array = onnx.numpy_helper.to_array(tensor)
            if array.size and np.isfinite(array).all():
                weights[tensor.name] = op
    return weights


def found(model: onnx.ModelProto, ops: Sequence[str]) -> dict[str, str]:
    """As weights_of. Raises Refusal where there is none."""
    if not (weights := weights_of(model, ops)):
        raise nothing(ops)
    return weights


def nothing(ops: Sequence[str]) -> job.Refusal:
    return job.Refusal(f"expected {', '.join(ops[:-1])} or {ops[-1]} with weights to store in 8 bits, found none: name "
                       "another method for the variant in the recipe, or leave it out")


def to_bytes(model: onnx.ModelProto, weights: Mapping[str, str]) -> list[str]:
    """Make int8 NAME.byte of each of the weights NAME, by the op that reads them, with a float32 NAME.scale a column
    of a product's matrix, a filter of a convolution, or a row of a recurrence; returns the names.
    """
    names = []
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name in weights]:
        name, array = tensor.name, onnx.numpy_helper.to_array(tensor)
        if weights[name] == "MatMul":
            largest = np.abs(array).max(axis=0)
        else:
            apart = 2 if weights[name] in RECURRENT else 1  # axes with scales of their own
            largest = np.abs(array).max(axis=tuple(range(apart, array.ndim)), keepdims=True)
        scale = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.round(array / scale).astype(np.int8), name + ".byte"))
        model.graph.initializer.append(onnx.numpy_helper.from_array(scale, name + ".scale"))
        names.append(name)
    return names


def widened(names: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes that make weights out of what is stored of them in 8 bits, which runtimes fold away."""
    return [node for name in names for node in (
        onnx.helper.make_node("Cast", [name + ".byte"], [name + ".wide"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Mul", [name + ".wide", name + ".scale"], [name]))]


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
    what follows it stay in float: they set the resolution of the result. So do norms, whose few weights need it, and
    what shares its weights with others, on which ONNX Runtime fails when it is asked for exact sums.
    """
    model = onnx.load(source)
    read = readers(model)
    kept = {node.name for node in model.graph.node
            if node.op_type in NORMS or (node.op_type in WEIGHTED and len(read[node.input[1]]) > 1
                                         and node.input[1] in {tensor.name for tensor in model.graph.initializer})}
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
        nodes_to_exclude=sorted(last_nodes(model.graph) | masked | kept), calibration_cache_path=cache)
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
    MatMulNBits, a scale for each BLOCK of a column, which multiplies 8 by 8 bits. Weights that something else
    reads, too, and those of other recurrences, are stored as byte-weights does. Raises Refusal where there are none.
    """
    quantize_dynamic(source, target, op_types_to_quantize=["LSTM"], per_channel=True, weight_type=QuantType.QInt8)
    model = onnx.load(target)
    weights, read = weights_of(model, ("MatMul", *RECURRENT)), readers(model)
    if not weights and not any(node.op_type == "DynamicQuantizeLSTM" for node in model.graph.node):
        target.unlink()
        raise nothing(("MatMul", *RECURRENT))
    rows = {tensor.name: tensor.dims[0] for tensor in model.graph.initializer if tensor.dims}
    alone = {name for name, op in weights.items()
             if op == "MatMul" and set(read[name]) == {("MatMul", 1)} and rows[name] >= LEAST_ROWS}
    put_first(model, widened(to_bytes(model, {name: op for name, op in weights.items() if name not in alone})))
    products = MatMulNBitsQuantizer(model, bits=8, block_size=BLOCK, is_symmetric=True, accuracy_level=4)
    products.process()
    quantized = products.model.model
    once = {tensor.name: tensor for tensor in quantized.graph.initializer}  # else as often as products read it
    del quantized.graph.initializer[:]
    quantized.graph.initializer.extend(once.values())
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
