"""A flat TensorFlow graph becomes tf2onnx's own, and nothing is evaluated on the way (Python 3.7).

TensorFlow's own freezing changes the definitions of nodes, and tf2onnx's reader of TF.js models makes its graph of
them: that one asks TensorFlow for shapes one op at a time, its inputs cut off.
"""

from typing import Any, Dict, List, Sequence, Set, Tuple

import numpy as np
from google.protobuf.json_format import MessageToDict
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.types_pb2 import DT_FLOAT
from tensorflow.python.framework import convert_to_constants, dtypes, op_def_registry, tensor_util
from tf2onnx.handler import tf_op
from tf2onnx.tfjs_utils import read_tfjs_graph, sort_tfjs_functions

from scripts.inspection.graph import bypassed, ordered
from scripts.job import Refusal

VARIABLES = ("VarHandleOp", "VariableV2", "Variable")
MOST_ARRAY = 2**31  # bytes
Arrays = Dict[str, np.ndarray]


def understood(op: str) -> bool:
    """Whether TensorFlow defines the op, or tf2onnx converts it nevertheless, as some of TF.js alone."""
    return bool(op_def_registry.get(op) or op_def_registry.get("_" + op)) or any(
        op in handlers for domain in tf_op.get_opsets().values() for handlers in domain)


def frozen(graph: GraphDef, outputs: Sequence[str]) -> GraphDef:
    """The graph with zeros in place of its variables, by TensorFlow's own way of changing the definitions."""
    told = convert_to_constants._ConverterData(graph)
    for node in graph.node:
        if node.op in VARIABLES:
            dtype = node.attr["dtype"].type
            shape = bounded(node.name, [size.size for size in node.attr["shape"].shape.dim], dtype)
            told.tensor_data[node.name] = convert_to_constants._TensorData(
                np.zeros(shape, dtypes.as_dtype(dtype).as_numpy_dtype), dtype, None)
    if not told.tensor_data:
        return graph
    changed, _ = convert_to_constants._replace_variables_by_constants(told)
    made = GraphDef(versions=changed.versions, library=changed.library)
    made.node.extend(ordered({node.name: node for node in changed.node}, outputs, ()))  # there are new ones at its end
    return made


def bounded(name: str, shape: Sequence[int], dtype: int) -> Sequence[int]:
    """The shape, if an array of it can be made. Raises Refusal otherwise."""
    size = dtypes.as_dtype(dtype).size or 1
    for length in shape:
        size *= length
    if size > MOST_ARRAY or any(length < 0 for length in shape):
        raise Refusal("{}: expected an array of at most {:,} bytes, found the shape {}: give another file".format(
            name, MOST_ARRAY, list(shape)))
    return shape


def translated(graph: GraphDef, arrays: Arrays, outputs: Sequence[str]) -> Tuple[Any, List[Any]]:
    """tf2onnx's graph of a frozen graph, and those of its functions, innermost first."""
    inputs = [node.name + ":0" for node in graph.node if node.op.startswith("Placeholder")
              or not understood(node.op)]
    nodes = bypassed(graph.node, outputs)
    main = read_tfjs_graph(plain_nodes(nodes), values(graph.node, arrays), None, inputs, list(outputs))
    functions = {function.signature.name: function for function in graph.library.function}
    told = [dict(MessageToDict(described(function), including_default_value_fields=True),
                 nodeDef=plain_nodes(bypassed(function.node_def, function.ret.values())))
            for function in functions.values()]
    return main, [read_tfjs_graph(one["nodeDef"], values(functions[one["signature"]["name"]].node_def, arrays), one)
                  for one in sort_tfjs_functions(told)]


def described(function: FunctionDef) -> FunctionDef:
    """The function without its nodes, and without shapes of unknown rank, which the reader takes for scalars."""
    made = FunctionDef(signature=function.signature, ret=function.ret)
    for number, attributes in function.arg_attr.items():
        shapes = attributes.attr["_output_shapes"].list.shape
        if shapes and not shapes[0].unknown_rank:
            made.arg_attr[number].attr["_output_shapes"].list.shape.extend(shapes)
    return made


def values(nodes: Sequence[NodeDef], arrays: Arrays) -> Arrays:
    """The values of constants by name: out of the graph, or out of the file beside it."""
    found = {}
    for node in nodes:
        tensor = node.attr["value"].tensor
        if node.op == "Const" and tensor.dtype:
            bounded(node.name, [size.size for size in tensor.tensor_shape.dim], tensor.dtype)
            found[node.name] = tensor_util.MakeNdarray(tensor)
        elif node.op == "Const":
            found[node.name] = arrays[node.name]
    return found


def plain_nodes(nodes: Sequence[NodeDef]) -> List[Dict[str, Any]]:
    """The nodes as TF.js has them; one whose op nobody defines is an input."""
    foreign: Set[str] = {node.name for node in nodes if not understood(node.op)}
    told = []
    for node in nodes:
        copy = NodeDef(name=node.name, op=node.op)
        if node.name in foreign:
            copy.op = "Placeholder"
            copy.attr["dtype"].type = next((node.attr[name].type for name in ("T", "dtype") if node.attr[name].type),
                                           DT_FLOAT)
        else:
            copy.input.extend(name.partition(":")[0] + ":0" if name.partition(":")[0] in foreign else name
                              for name in node.input)
            definition = op_def_registry.get(node.op)
            defaults = [(attribute.name, attribute.default_value) for attribute in definition.attr
                        if attribute.HasField("default_value")] if definition else []  # which files may leave out
            for name, value in [*defaults, *node.attr.items()]:
                if not name.startswith("_") and value.WhichOneof("value") not in (None, "placeholder", "tensor"):
                    copy.attr[name].CopyFrom(value)
        told.append(MessageToDict(copy, including_default_value_fields=True))
    return told
