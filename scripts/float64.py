"""A TensorFlow 1 session's graph once more, in float64: its results but for rounding (Python 3.7)."""

from typing import Callable, Dict, Sequence

import numpy as np
import tensorflow.compat.v1 as tf

FLOAT, DOUBLE = tf.float32.as_datatype_enum, tf.float64.as_datatype_enum
Arrays = Dict[str, np.ndarray]


def answering(session: tf.Session, outputs: Sequence[str]) -> Callable[[Arrays], Arrays]:
    """A function of what is fed to the session's graph, by node, that returns the outputs' values in float64, by node.

    Every weight keeps its value in float32; each operation is TensorFlow's own in float64. Where it has none, as for
    the cells of fused LSTMs, the function raises tf.errors.InvalidArgumentError or tf.errors.NotFoundError.
    """
    frozen = widened(tf.graph_util.convert_variables_to_constants(session, session.graph_def, list(outputs)))
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(frozen, name="")
    inside = tf.Session(graph=graph)

    def answer(feed: Arrays) -> Arrays:
        found = inside.run([name + ":0" for name in outputs], {name + ":0": array for name, array in feed.items()})
        return dict(zip(outputs, found))

    return answer


def widened(graph: tf.GraphDef) -> tf.GraphDef:
    """The graph with every float32 a float64: of operations, of constants, of functions' arguments."""
    wide = tf.GraphDef()
    wide.CopyFrom(graph)
    for function in wide.library.function:
        for argument in (*function.signature.input_arg, *function.signature.output_arg):
            if argument.type == FLOAT:
                argument.type = DOUBLE
    for nodes in (wide.node, *(function.node_def for function in wide.library.function)):
        for node in nodes:
            for attribute in node.attr.values():
                kind = attribute.WhichOneof("value")
                if kind == "type" and attribute.type == FLOAT:
                    attribute.type = DOUBLE
                elif kind == "list":
                    attribute.list.type[:] = [DOUBLE if one == FLOAT else one for one in attribute.list.type]
                elif kind == "tensor" and attribute.tensor.dtype == FLOAT:
                    array = tf.make_ndarray(attribute.tensor).astype(np.float64)
                    attribute.tensor.CopyFrom(tf.make_tensor_proto(array, shape=array.shape))
    return wide
