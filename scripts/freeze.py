"""From a TensorFlow 1 session, or a function of TensorFlow 2, to ONNX by tf2onnx, its known traps closed (Python 3.7).

Closed here, each seen with tf2onnx 1.16.1: input names permuted between runs
(SavedModel loader), unsupported ops written out in silence, bytes that change from
run to run because graph nodes are put into sets, and bytes that change from CPU to CPU
because TensorFlow folds rsqrt by an approximation that each CPU makes differently.
"""

import functools
import itertools
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np
import onnx
import tensorflow.compat.v1 as tf
import tf2onnx.convert
import tf2onnx.graph
from tensorflow.python.eager.function import ConcreteFunction
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from scripts import rewrite
from scripts.job import Refusal

CONSTANT_OPS = {"Identity": lambda x: x, "AddV2": np.add, "Add": np.add}  # exact in IEEE arithmetic, on every CPU

OLDEST_WITH_FUNCTIONS = 8  # of ONNX's IR versions

_born = itertools.count()


def _hash_in_sequence(node):
    """A hash that follows the order in which nodes were first hashed, not their address."""
    if not hasattr(node, "_sequence"):
        node._sequence = next(_born)
    return node._sequence


tf2onnx.graph.Node.__hash__ = _hash_in_sequence


def freeze(session: tf.Session, inputs: Sequence[str], outputs: Sequence[str], opset: int,
           recipe: Optional[Dict[str, Any]] = None, rewriters: Sequence[Callable[..., Any]] = (),
           handlers: Optional[Dict[str, Callable[..., Any]]] = None) -> onnx.ModelProto:
    """Convert the part of a session's graph between inputs and outputs, weights inside.

    inputs and outputs are names of graph nodes and become the names of the ONNX
    graph's ports, in this order. What tf2onnx lacks is said by the recipe's [rewrites] and
    [custom_ops]; by rewriters, each (graph, nodes) -> nodes on tf2onnx's graph; and by handlers, each
    (graph, node, name, args) for the nodes of an op. Raises Refusal where an op has no ONNX equivalent.
    """
    frozen = constant_graph(session, outputs)
    texts, operators = ((recipe or {}).get(key, {}) for key in ("rewrites", "custom_ops"))
    ops = {node.op for nodes in [frozen.node, *(f.node_def for f in frozen.library.function)] for node in nodes}
    functions = rewrite.functions(ops - set(operators) - set(handlers or {}), texts, opset)
    taught = {op: rewrite.to_function(function, rewrite.place(op, texts)) for op, function in functions.items()}
    taught.update({op: rewrite.to_operator(op, told) for op, told in operators.items()})
    taught.update(handlers or {})
    failures = []  # type: List[Refusal]
    domains = sorted({told["domain"] for told in operators.values()} | ({rewrite.DOMAIN} if functions else set()))
    model, _ = tf2onnx.convert.from_graph_def(
        frozen,
        input_names=[name + ":0" for name in inputs],
        output_names=[name + ":0" for name in outputs],
        opset=opset,
        custom_op_handlers={op: (heard(handler, failures), []) for op, handler in taught.items()},
        custom_rewriter=[heard(rewriter, failures) for rewriter in rewriters],
        extra_opset=[onnx.helper.make_opsetid(domain, 1) for domain in domains],
        tensors_to_rename={name + ":0": name for name in list(inputs) + list(outputs)},
    )
    if failures:
        raise failures[0]
    called = {node.op_type for node in rewrite.nodes(model.graph.node) if node.domain == rewrite.DOMAIN}
    if called:
        model.functions.extend(functions[op] for op in sorted(called))
        model.ir_version = max(model.ir_version, OLDEST_WITH_FUNCTIONS)
    return checked(model, inputs, outputs, {op: told["domain"] for op, told in operators.items()},
                   sorted(called | set(handlers or {})))


def function_graph(function: ConcreteFunction, described: Dict[str, List[Dict[str, Any]]]) -> tf.Graph:
    """The graph of a function of TensorFlow 2, weights inside, for a session: its ports are those described.

    Its control flow stays version 2, as tf2onnx knows Keras' LSTMs by it. Its arguments have the inputs' names, and it
    returns a dictionary of the outputs; inputs are cast to its own dtypes, and outputs back to those described. Raises
    Refusal where its ports are others.
    """
    found = sorted(function._arg_keywords), sorted(function.structured_outputs)
    expected = tuple(sorted(port["name"] for port in described[kind]) for kind in ("inputs", "outputs"))
    if found != expected:
        raise Refusal("expected the ports {} -> {} of the recipe, found {} -> {}: name these in recipe.toml".format(
            *expected, *found))
    frozen = convert_variables_to_constants_v2(function, lower_control_flow=False, aggressive_inlining=True)
    # By the function's own keywords: zipped with the sorted signature, inputs come out permuted.
    inputs = dict(zip(function._arg_keywords, frozen.inputs))
    outputs = dict(zip(sorted(function.structured_outputs), frozen.outputs))
    with tf.Graph().as_default() as graph:
        given = {}
        for port in described["inputs"]:
            tensor = inputs[port["name"]]
            placeholder = tf.placeholder(port["dtype"], tensor.shape, port["name"])
            given[tensor.name] = tf.cast(placeholder, tensor.dtype)
        names = [outputs[port["name"]].name for port in described["outputs"]]
        results = tf.import_graph_def(frozen.graph.as_graph_def(), given, names, name="model")
        for port, result in zip(described["outputs"], results):
            tf.identity(tf.cast(result, port["dtype"]), port["name"])
    return graph


def constant_graph(session: tf.Session, outputs: Sequence[str]) -> tf.GraphDef:
    """What a session computes its outputs by, its variables' values inside."""
    frozen = tf.graph_util.convert_variables_to_constants(session, session.graph_def, list(outputs))
    fold_rsqrt(frozen)
    return frozen


def checked(model: onnx.ModelProto, inputs: Sequence[str], outputs: Sequence[str],
            operators: Optional[Dict[str, str]] = None, written: Sequence[str] = ()) -> onnx.ModelProto:
    """A model as a converter wrote it. Raises Refusal where its ops aren't ONNX's, or its ports not those asked for.

    operators: by op, the domains of those that it may have besides; written: the ops that were taught, which are to
    blame for an invalid graph.
    """
    require_standard_ops(model, operators)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise Refusal("expected a valid graph, found one that onnx.checker refuses ({}): look at what was written for "
                      "{}".format(" ".join(str(error).split())[:300], ", ".join(written) or "tf2onnx")) from error
    ports = [port.name for port in model.graph.input], [port.name for port in model.graph.output]
    if ports != (list(inputs), list(outputs)):
        raise Refusal("the converter permuted the ports: asked for {} -> {}, got {} -> {}".format(
            list(inputs), list(outputs), *ports))
    return model


def heard(function: Callable[..., Any], failures: List[Refusal]) -> Callable[..., Any]:
    """The function, its failures written down: tf2onnx passes over them."""
    @functools.wraps(function)
    def hearing(*given: Any) -> Any:
        try:
            return function(*given)
        except Refusal as refusal:
            failures.append(refusal)
            return given[-1]  # of a rewriter, the nodes
        except Exception as error:
            failures.append(Refusal("{} in {}: expected a rewritten graph, found {}: {}: correct it, docs/rewrites.md "
                                    "says what it is given".format(function.__name__, function.__module__,
                                                                   type(error).__name__, error)))
            raise
    return hearing


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


def require_standard_ops(model: onnx.ModelProto, operators: Optional[Dict[str, str]] = None) -> None:
    """Raise Refusal naming every op that the model's ONNX opset doesn't have.

    Allowed besides are calls of the model's own functions, and the given operators in their domains.
    tf2onnx writes unknown ops out under their TensorFlow names and exits 0.
    """
    opset = next(o.version for o in model.opset_import if o.domain == "")
    known = {(function.domain, function.name) for function in model.functions}
    known |= {(domain, op) for op, domain in (operators or {}).items()}
    foreign = sorted({node.op_type for node in rewrite.nodes(model.graph.node)
                      if not rewrite.is_standard(node, opset) and (node.domain, node.op_type) not in known})
    if foreign:
        raise Refusal("no ONNX opset {} equivalent for TensorFlow op {}: give it a text under [rewrites] in the "
                      "recipe, or a kernel under [custom_ops.{}], as docs/rewrites.md says, or rewrite it in the "
                      "model's export.py".format(opset, ", ".join(foreign), foreign[0]))
