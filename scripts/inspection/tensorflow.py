"""Reads TensorFlow models as data for `make inspect`: SavedModels, frozen graphs, TF.js, Keras' H5 (Python 3.7)."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Sequence

import tensorflow as tf
import tf2onnx
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.framework import op_def_registry

from scripts.inspection import keras
from scripts.inspection.graph import flat, sinks
from scripts.inspection.handlers import CONVERTED, IMPOSSIBLE, LACKING, OPSET, REWRITTEN, Fate, judged
from scripts.inspection.report import (
    Report,
    answer,
    checked,
    look,
    model_parsed,
    places,
    read,
    refusal,
    report,
    section,
    shape_text,
    totals,
)
from scripts.inspection.tfjs import tfjs_model
from scripts.inspection.translate import Arrays

ARROWS = {"inputs": "input", "outputs": "output"}
GRAPH = "a frozen GraphDef of TensorFlow"
VERDICTS = (CONVERTED, REWRITTEN, LACKING, IMPOSSIBLE)


def saved_model(folder: Path) -> Report:
    """A SavedModel: its signatures, what they compute, its layers and its variables."""
    expected = "a SavedModel's saved_model.pb and its variables/"
    if not folder.is_dir():
        raise refusal(folder, "the folder of a SavedModel", "a file" if folder.exists() else "none")
    model = SavedModel()
    if not model_parsed(model, read(folder / "saved_model.pb", expected)) or not model.meta_graphs:
        raise refusal(folder / "saved_model.pb", expected, "no protobuf of one")
    meta = next((meta for meta in model.meta_graphs if "serve" in meta.meta_info_def.tags), model.meta_graphs[0])
    signatures = [(name, signature) for name, signature in sorted(meta.signature_def.items())
                  if not name.startswith("__")]
    ports = [(name, ARROWS[kind], port, tf.as_dtype(info.dtype).name, proto_shape(info.tensor_shape), info.name)
             for name, signature in signatures for kind in ("inputs", "outputs")
             for port, info in sorted(getattr(signature, kind).items())]
    outputs = list(dict.fromkeys(port[-1] for port in ports if port[1] == "output"))
    layers = keras.saved_layers(meta.object_graph_def)
    variables = variables_of(folder)
    arrays = section("variables", ("name", "shape", "dtype"),
                     ((name, shape_text(shape), dtype) for name, (shape, dtype) in variables.items()))
    signed = section("signatures", ("signature", "", "name", "dtype", "shape", "tensor"), ports)
    counts = [product(shape) for shape, _ in variables.values()]
    size = sum(count * (tf.as_dtype(dtype).size or 1) for count, (_, dtype) in zip(counts, variables.values()))
    lines = [totals("variables", len(variables), sum(counts), size)]
    if not outputs:
        return report([signed, *keras.sections(layers), arrays], lines,
                      ["It has no signature, so nothing says what it computes: save it with signatures=…, then inspect "
                       "it again.", *keras.advice(layers)])
    graph, outputs = flat(meta.graph_def, outputs)
    fates, flaw = judged(graph, {}, outputs)
    return report([signed, *op_sections(fates), *keras.sections(layers), arrays],
                  [*lines, control_flow(graph), *doubts(flaw)],
                  [*advice(fates, graph), *keras.advice(layers)])


def product(shape: Sequence[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def proto_shape(shape: Any) -> str:
    """A shape of a signature; its axes have names at times."""
    if shape.unknown_rank:
        return shape_text(None)
    return shape_text([axis.name or "?" if axis.size < 0 else axis.size for axis in shape.dim])


def variables_of(folder: Path) -> Dict[str, Any]:
    """Shape and dtype of each variable, by the index of the checkpoint in variables/; its data isn't read."""
    prefix = folder / "variables/variables"
    index = prefix.with_suffix(".index")
    if not index.exists():
        return {}
    checked(index, "the index of a checkpoint")
    try:
        reader = tf.compat.v1.train.NewCheckpointReader(str(prefix))
        shapes, kinds = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise refusal(index, "the index of a checkpoint", "one that can't be read ({})".format(
            str(error).splitlines()[0][:200])) from error
    return {name: (shapes[name], kinds[name].name) for name in sorted(shapes)
            if kinds[name] != tf.string and name != "save_counter/.ATTRIBUTES/VARIABLE_VALUE"}


def frozen(path: Path) -> Report:
    """A frozen graph: a GraphDef with its weights in it, and no signature."""
    start = checked(path, GRAPH)
    graph = GraphDef()
    if not model_parsed(graph, path.read_bytes()) or not graph.node or not all(node.op for node in graph.node):
        raise refusal(path, GRAPH, look(start))
    return of_graph(graph, {}, sinks(graph))


def tfjs(path: Path) -> Report:
    """A model of TF.js: a graph, layers of Keras', or weights alone."""
    model = tfjs_model(path)
    table = section("weights", ("name", "shape", "dtype"), (
        (name, shape_text(shape), dtype) for name, shape, dtype, _ in model.weights))
    lines = [totals("weights", len(model.weights), sum(product(shape) for _, shape, _, _ in model.weights),
                    sum(size for _, _, _, size in model.weights))]
    if model.graph is not None:
        told = of_graph(model.graph, model.arrays, model.outputs or sinks(model.graph))
        return dict(told, sections=[*told["sections"], table], lines=[*lines, *told["lines"][1:]])
    if model.layers is not None:
        layers = keras.layers_of(model.layers)
        return report([*keras.sections(layers), table], lines, [
            "These are layers of Keras', no graph: load them with tensorflowjs_converter --input_format "
            "tfjs_layers_model --output_format keras_saved_model, then inspect that.", *keras.advice(layers)])
    return report([table], lines, ["These are weights without a graph: the code that runs them must be found, or "
                                   "written again from the shapes, as models/coconet was."])


def of_graph(graph: GraphDef, arrays: Arrays, outputs: Sequence[str]) -> Report:
    """What a graph without a signature computes."""
    whole, outputs = flat(graph, outputs)
    fates, flaw = judged(whole, arrays, outputs)
    inputs = [(node.name, tf.as_dtype(node.attr["dtype"].type).name, proto_shape(node.attr["shape"].shape))
              for node in whole.node if node.op.startswith("Placeholder")]
    weights = [node.attr["value"].tensor for node in whole.node if node.op == "Const"]
    counts = [product([axis.size for axis in weight.tensor_shape.dim]) for weight in weights]
    size = sum(count * (tf.as_dtype(weight.dtype).size or 1) for count, weight in zip(counts, weights) if weight.dtype)
    return report([section("inputs", ("name", "dtype", "shape"), inputs), *op_sections(fates)],
                  [totals("constants", len(weights), sum(counts), size),
                   "outputs      {}: no signature tells them, these are the nodes that no other needs".format(
                       ", ".join(name.rpartition(":")[0] for name in outputs[:6])), control_flow(whole), *doubts(flaw)],
                  advice(fates, whole))


def op_sections(fates: List[Fate]) -> List[Dict[str, Any]]:
    """The ops by verdict: those that need something last, where they are seen."""
    groups: Dict[Any, List[str]] = {}
    for fate in fates:
        groups.setdefault((fate.verdict, fate.op, fate.why), []).append(fate.name)
    ordered = sorted(groups.items(), key=lambda group: (VERDICTS.index(group[0][0]), group[0]))
    return [section("ops, by tf2onnx {} for opset {}".format(tf2onnx.__version__, OPSET),
                    ("op", "count", "verdict", "why", "where"),
                    ((op, len(names), verdict, why, places(names) if verdict in (LACKING, IMPOSSIBLE) else "")
                     for (verdict, op, why), names in ordered), (1,))]


def control_flow(graph: GraphDef) -> str:
    """Which of TensorFlow's two kinds of loops and branches a graph has."""
    ops = Counter(node.op for body in [graph.node, *(f.node_def for f in graph.library.function)] for node in body)
    first = {op: ops[op] for op in ("Enter", "Exit", "Switch", "Merge") if ops[op]}
    second = {op: ops[op] for op in ("While", "StatelessWhile", "If", "StatelessIf", "Case") if ops[op]}
    kinds = ["{} ({})".format(kind, ", ".join("{} {}".format(count, op) for op, count in found.items()))
             for kind, found in (("v1", first), ("v2", second)) if found]
    return "control flow " + (", ".join(kinds) or "none")


def doubts(flaw: str) -> List[str]:
    return ["rewriters    tf2onnx could not go over this graph ({}): only its table of handlers was asked".format(
        flaw)] if flaw else []


def advice(fates: List[Fate], graph: GraphDef) -> List[str]:
    """What to do next about a graph."""
    by_verdict = {verdict: sorted({fate.op for fate in fates if fate.verdict == verdict}) for verdict in VERDICTS}
    said = []
    if by_verdict[LACKING]:
        said.append("{} {} no handler that works. {}".format(
            ", ".join(by_verdict[LACKING]), "have" if len(by_verdict[LACKING]) > 1 else "has",
            remedy(by_verdict[LACKING][0])))
    tables = [op for op in by_verdict[IMPOSSIBLE] if "Table" in op]
    if tables:
        found = [fate.name.split("/")[-2:][0] for fate in fates if fate.op.startswith("LookupTable")]
        said.append("Found a lookup table, {}: look up before, and give the model the indices.".format(
            ", ".join(dict.fromkeys(found)) or tables[0]))
    if set(by_verdict[IMPOSSIBLE]) - set(tables):
        said.append("{} can't be an op of ONNX: cut the graph in front of it, compute that outside, and make it an "
                    "input.".format(", ".join(sorted(set(by_verdict[IMPOSSIBLE]) - set(tables)))))
    if "v2" in control_flow(graph) and any(fate.verdict == REWRITTEN and fate.why.startswith("its functions")
                                           for fate in fates):
        said.append("Loops of control flow v2 may come out of tf2onnx as an invalid model without a word: build the "
                    "graph with tf.compat.v1.disable_control_flow_v2(), or check the result with onnx.checker and a "
                    "session.")
    return said or ["tf2onnx has something for every op: freeze the graph, convert it with explicit inputs and outputs "
                    "as scripts/freeze.py does, and compare its answers with the original's."]


def remedy(op: str) -> str:
    """What to write where, for an op without a handler."""
    definition = op_def_registry.get(op)
    inputs, outputs = (", ".join(port.name for port in ports)
                       for ports in (definition.input_arg, definition.output_arg))
    return ("In the model's recipe.toml, write under [rewrites] what it is in operators of ONNX: {0} = \"\"\" ({1}) => "
            "({2}) {{ … }} \"\"\"; or, where ONNX can't say it, name it under [custom_ops.{0}], and write its kernel, "
            "def {0}({1}), in the model's kernels.py. docs/rewrites.md shows both, and a rewriter for several nodes at "
            "once; tf2onnx's --custom-ops only keeps the name, which no runtime knows.".format(op, inputs, outputs))


READERS = {"saved_model": saved_model, "h5": keras.h5, "frozen": frozen, "tfjs": tfjs}

if __name__ == "__main__":
    answer(READERS[sys.argv[1]], Path(sys.argv[2]))
