"""From a TensorFlow 1 session, or a function of TensorFlow 2, to ONNX by tf2onnx, its known traps closed (Python 3.7).

Closed here, each seen with tf2onnx 1.16.1: input names permuted between runs
(SavedModel loader), unsupported ops written out in silence, bytes that change from
run to run because graph nodes are put into sets, and bytes that change from CPU to CPU
because TensorFlow folds rsqrt by an approximation that each CPU makes differently.
"""

import itertools
from typing import Dict, Optional, Sequence

import numpy as np
import onnx
import tensorflow.compat.v1 as tf
import tf2onnx.convert
import tf2onnx.graph
import tf2onnx.tf_loader
from tensorflow.python.eager.function import ConcreteFunction

from scripts.job import Refusal

CONSTANT_OPS = {"Identity": lambda x: x, "AddV2": np.add, "Add": np.add}  # exact in IEEE arithmetic, on every CPU

_born = itertools.count()


def _hash_in_sequence(node):
    """A hash that follows the order in which nodes were first hashed, not their address."""
    if not hasattr(node, "_sequence"):
        node._sequence = next(_born)
    return node._sequence


tf2onnx.graph.Node.__hash__ = _hash_in_sequence


def freeze(session: tf.Session, inputs: Sequence[str], outputs: Sequence[str], opset: int) -> onnx.ModelProto:
    """Convert the part of a session's graph between inputs and outputs, weights inside.

    inputs and outputs are names of graph nodes and become the names of the ONNX
    graph's ports, in this order. Raises Refusal where an op has no ONNX equivalent.
    """
    frozen = tf.graph_util.convert_variables_to_constants(session, session.graph_def, list(outputs))
    return converted(frozen, {name + ":0": name for name in inputs}, {name + ":0": name for name in outputs}, opset)


def freeze_function(function: ConcreteFunction, inputs: Sequence[str], outputs: Sequence[str],
                    opset: int) -> onnx.ModelProto:
    """Convert a function of TensorFlow 2, weights inside, its control flow as it is: tf2onnx knows Keras' LSTMs by it.

    inputs and outputs are the names that the function's arguments and results get, in their order.
    Raises Refusal where an op has no ONNX equivalent.
    """
    arguments = [tensor.name for tensor in function.inputs if tensor.dtype != tf.resource]
    results = [tensor.name for tensor in function.outputs]
    frozen = tf2onnx.tf_loader.from_function(function, arguments, results)
    return converted(frozen, dict(zip(arguments, inputs)), dict(zip(results, outputs)), opset)


def converted(frozen: tf.GraphDef, inputs: Dict[str, str], outputs: Dict[str, str], opset: int) -> onnx.ModelProto:
    """A graph without variables as ONNX; inputs and outputs: the ports' names by those of its tensors, in order."""
    fold_rsqrt(frozen)
    model, _ = tf2onnx.convert.from_graph_def(frozen, input_names=list(inputs), output_names=list(outputs),
                                              opset=opset, tensors_to_rename=dict(inputs, **outputs))
    require_standard_ops(model)
    onnx.checker.check_model(model, full_check=True)
    ports = [port.name for port in model.graph.input], [port.name for port in model.graph.output]
    asked = list(inputs.values()), list(outputs.values())
    if ports != asked:
        raise Refusal("the converter permuted the ports: asked for {} -> {}, got {} -> {}".format(*asked, *ports))
    return model


def fold_rsqrt(graph: tf.GraphDef) -> None:
    """Replace each 1/sqrt of constants, the heart of a batch norm, by its correctly rounded value."""
    nodes = {node.name: node for node in graph.node}

    def constant(name: str) -> Optional[np.ndarray]:
        node = nodes[name.split(":")[0]]
        if node.op == "Const":
            return tf.make_ndarray(node.attr["value"].tensor)
        values = [constant(name) for name in node.input if not name.startswith("^")]
        if node.op not in CONSTANT_OPS or any(value is None for value in values):
            return None
        return CONSTANT_OPS[node.op](*values)

    for node in graph.node:
        value = constant(node.input[0]) if node.op == "Rsqrt" else None
        if value is not None:
            exact = (1 / np.sqrt(value.astype(np.float64))).astype(value.dtype)
            node.op = "Const"
            node.attr["dtype"].CopyFrom(node.attr["T"])
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(exact))
            del node.attr["T"]
            del node.input[:]


def require_standard_ops(model: onnx.ModelProto) -> None:
    """Raise Refusal naming every op that the model's ONNX opset doesn't have.

    tf2onnx writes such ops out under their TensorFlow names and exits 0.
    """
    opset = next(o.version for o in model.opset_import if o.domain == "")
    nodes = (node for graph in _graphs(model.graph) for node in graph.node)
    foreign = sorted({node.op_type for node in nodes if not _is_standard(node, opset)})
    if foreign:
        raise Refusal("no ONNX opset {} equivalent for TensorFlow op {}: rewrite it in the model's export.py".format(
            opset, ", ".join(foreign)))


def _is_standard(node: onnx.NodeProto, opset: int) -> bool:
    try:
        onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return False
    return node.domain == ""


def _graphs(graph):
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graphs(attribute.g)
