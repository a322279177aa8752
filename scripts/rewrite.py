"""What stands for TensorFlow's ops that tf2onnx lacks, as data: texts, and operators with a kernel (Python 3.7).

A text is an op in ONNX's own textual syntax (https://github.com/onnx/onnx/blob/main/docs/Syntax.md), without its name:
`(x, y) => (z) { … }`, or `<side> (x, y) => (z) { … }` where an attribute of TensorFlow's is taken, as `@side`. It
becomes a function of the model's own, which the stage optimize puts in place of each node. Texts that are ready lie in
rewrites/, one file an op; a recipe's own, under [rewrites], come first. An operator of a recipe's [custom_ops] stays a
node, in a domain of its own, and scripts/kernels.py runs it.
"""

import re
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Set

import numpy as np
import onnx.checker
import onnx.defs
import onnx.parser
from onnx.mapping import NP_TYPE_TO_TENSOR_TYPE
from tensorflow.python.framework import op_def_registry

from scripts.job import Refusal

DOMAIN = "bellfoundry.rewrites"
READY = Path(__file__).parent / "rewrites"
HEADER = '<ir_version: 8, opset_import: ["" : {0}]> m () => () {{}} <domain: "{1}", opset_import: ["" : {0}]> {2} '
Functions = Dict[str, onnx.FunctionProto]
Handler = Callable[..., Any]


def functions(ops: Iterable[str], texts: Dict[str, str], opset: int) -> Functions:
    """The function for each op that has a text: the recipe's texts, and the ready ones of the given ops.

    Raises Refusal on a text that isn't one of TensorFlow's ops, or not of ONNX's in this opset.
    """
    unknown = sorted(op for op in texts if op_def_registry.get(op) is None)
    if unknown:
        raise Refusal("[rewrites] {} in the recipe: expected an op of TensorFlow's, which has none of this name: make "
                      "inspect lists a graph's".format(unknown[0]))
    found = {op: parsed(op, text, place(op, texts), opset) for op, text in texts.items()}
    for op in sorted(set(ops) & ready() - set(texts)):
        text = (READY / (op + ".txt")).read_text(encoding="utf-8")
        found[op] = parsed(op, text, place(op, texts), opset)
    return found


def ready() -> Set[str]:
    """The ops whose texts lie in rewrites/."""
    return {path.stem for path in READY.glob("*.txt")}


def place(op: str, texts: Dict[str, str]) -> str:
    """Where the text for an op stands."""
    return "[rewrites] {} in the recipe".format(op) if op in texts else "scripts/rewrites/{}.txt".format(op)


def parsed(op: str, text: str, where: str, opset: int) -> onnx.FunctionProto:
    """A text as a function of the model's own. Raises Refusal where it isn't ONNX of this opset."""
    header = HEADER.format(opset, DOMAIN, op)
    try:
        model = onnx.parser.parse_model(header + text)
    except onnx.parser.ParseError as error:
        said = error.args[0].decode("utf-8", "replace").replace(header, "")
        line, found, why = re.search(r"line: (\d+).*\nError context: *(.*)\n(.*)", said).groups()
        raise Refusal("{}: expected ONNX's textual syntax, (x, y) => (z) {{ … }}, found in its line {} '{}': {}".format(
            where, line, found.strip(), why)) from None
    if len(model.functions) != 1:
        raise Refusal("{}: expected one function, found {}: give each op a text of its own".format(
            where, len(model.functions)))
    for node in nodes(model.functions[0].node):
        if not is_standard(node, opset):
            raise Refusal("{}: expected ops of ONNX opset {}, found {}: write it in terms of those, or raise the "
                          "recipe's opset".format(where, opset, node.op_type))
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise Refusal("{}: onnx.checker refuses it: {}".format(where, str(error).strip().splitlines()[0])) from None
    return model.functions[0]


def is_standard(node: onnx.NodeProto, opset: int) -> bool:
    """Whether a node's operator is ONNX's own, and in this opset."""
    try:
        return node.domain == "" and not onnx.defs.get_schema(node.op_type, opset, "").deprecated
    except onnx.defs.SchemaError:
        return False


def nodes(of: Iterable[onnx.NodeProto]) -> Iterable[onnx.NodeProto]:
    """Nodes, and those of the graphs in them."""
    for node in of:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from nodes(attribute.g.node)


def to_function(function: onnx.FunctionProto, where: str) -> Handler:
    """A handler of tf2onnx's that makes a node of TensorFlow's a call of a function."""
    def handler(graph: Any, node: Any, name: str, args: Any) -> None:
        require_count(where, node, len(function.input), len(function.output))
        keep_attributes(where, node, set(function.attribute), "begin the text with <{0}>, and use it as @{0}")
        node.domain = DOMAIN
    return handler


def to_operator(op: str, told: Dict[str, Any]) -> Handler:
    """A handler of tf2onnx's that puts a node of TensorFlow's into the domain of an operator with a kernel."""
    where = "[custom_ops.{}] in the recipe".format(op)

    def handler(graph: Any, node: Any, name: str, args: Any) -> None:
        require_count(where, node, len(told["inputs"]), len(told["outputs"]))
        for kind, names in (("inputs", node.input), ("outputs", node.output)):
            for number, (dtype, port) in enumerate(zip(told[kind], names)):
                found = graph.get_dtype(port)
                if found != NP_TYPE_TO_TENSOR_TYPE[np.dtype(dtype)]:
                    raise Refusal("{}: expected {} of dtype {}, found {} at place {}, of the node {}: correct the "
                                  "recipe, or cast in the model".format(
                                      where, kind, ", ".join(told[kind]),
                                      onnx.TensorProto.DataType.Name(found or 0).lower(), number, name))
        keep_attributes(where, node, set(told.get("attributes", {})), 'give it attributes = {{ {0} = "string" }}')
        node.domain = told["domain"]
    return handler


def require_count(where: str, node: Any, inputs: int, outputs: int) -> None:
    """Raises Refusal where a node has another number of inputs or outputs."""
    if (len(node.input), len(node.output)) != (inputs, outputs):
        raise Refusal("{}: expected {} inputs and {} outputs, as TensorFlow's node {} has, found {} and {}: write as "
                      "many".format(where, len(node.input), len(node.output), node.name, inputs, outputs))


def keep_attributes(where: str, node: Any, kept: Set[str], remedy: str) -> None:
    """Leave a node the attributes that are taken. Raises Refusal for one that isn't there, or would be lost.

    Those that only tell of dtypes and of numbers of inputs may be lost.
    """
    definition = op_def_registry.get(node.type)
    counts = {port.number_attr for port in definition.input_arg}
    telling = {one.name for one in definition.attr if "type" not in one.type and one.name not in counts}
    if kept - set(node.attr):
        raise Refusal("{}: expected attributes of TensorFlow's op among {}, found {}: leave it out".format(
            where, ", ".join(sorted(node.attr)) or "none", min(kept - set(node.attr))))
    if (telling & set(node.attr)) - kept:
        lost = min((telling & set(node.attr)) - kept)
        raise Refusal("{}: expected every attribute of TensorFlow's op to be taken, found {} left over: {}".format(
            where, lost, remedy.format(lost)))
    for name in set(node.attr) - kept:
        del node.attr[name]
