"""A SavedModel as a source: what it answers, and its graph as ONNX (Python 3.7, TensorFlow 2.4.1).

`python -m scripts.saved_model FOLDER [SIGNATURE]` says as JSON what a recipe has to know of it, and runs nothing of it.
"""

import functools
import json
import re
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Set, Tuple

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from scripts import detour, session
from scripts.freeze import function_graph
from scripts.inspection.graph import OUTSIDE, flat, holds, named_functions
from scripts.inspection.report import model_parsed, read, refusal, shape_text
from scripts.job import REFUSED, Refusal, progress
from scripts.trace import Question

SIGNATURE = "serving_default"  # which is taken where there are several and none is named
AXES = ("batch", "length", "axis_{}")  # dynamic ones by their number: no signature says which are of one size
SAVING = re.compile("Save|Restore|Checkpoint")  # in every SavedModel's, but not where it computes
RESOURCES = {"VarHandleOp", "TensorArrayV3"}  # what may be read of more than once: variables, and a loop's own arrays
PASSING = {"Identity", "Cast", "Reshape", "ExpandDims", "Squeeze", "Transpose", "StridedSlice", "Pack", "ConcatV2"}
MOST = {"bool": 1, "uint8": 255, "int8": 127, "uint16": 65535, "int16": 32767}  # of an input of few bits
EXPECTED = "a SavedModel with a signature"
Arrays = Dict[str, np.ndarray]
Port = Dict[str, Any]  # as a recipe has it: name, dtype, shape


def export(source: Path, out: Path, recipe: Dict[str, Any], feeds: Dict[str, Arrays], **taught: Any) -> None:
    """Write the recipe's only component as ONNX, and reference.npz with what the model answers to each feed by case.

    taught: rewriters and handlers, as scripts.freeze.freeze has them. Raises Refusal where the model's ports aren't
    the recipe's, or an op has no ONNX equivalent.
    """
    [(component, described)] = recipe["components"].items()
    told = describe(source, recipe.get("signature", ""))  # before anything of it is run
    model = tf.saved_model.load(str(source))  # kept, as it holds the variables
    function = model.signatures[told["signature"]]
    progress("converting the SavedModel's graph")
    with function_graph(function, described).as_default(), tf.compat.v1.Session() as inside:
        detour.write(inside, described, recipe, out / "{}.onnx".format(component), **taught)
    arrays = {}
    for case, feed in feeds.items():
        progress("asking the original: {}".format(case))
        try:
            answers = {name: tensor.numpy() for name, tensor in function(**cast(function, feed)).items()}
        except (tf.errors.OpError, ValueError, TypeError) as error:
            shapes = ", ".join("{} {}".format(name, shape_text(array.shape)) for name, array in sorted(feed.items()))
            raise Refusal("expected cases that the original takes, found {!r} of the model's inputs.py, {}, which it "
                          "refuses ({}): enlarge its sizes there, or correct what it holds".format(
                              case, shapes, str(error).strip().splitlines()[0][:300])) from error
        for port in (*described["inputs"], *described["outputs"]):
            array = feed[port["name"]] if port["name"] in feed else answers[port["name"]]
            arrays["{}/{}/{}".format(component, case, port["name"])] = array.astype(port["dtype"])
    np.savez(str(out / "reference.npz"), **arrays)


def cast(function: Any, feed: Arrays) -> Dict[str, tf.Tensor]:
    """A feed in the function's own dtypes."""
    dtypes = {name: tensor.dtype for name, tensor in zip(function._arg_keywords, function.inputs)}
    return {name: tf.cast(array, dtypes[name]) for name, array in feed.items()}


def trace(source: Path, recipe: Dict[str, Any], question: Question) -> Arrays:
    """What the model computes inside, of the tensors that its export has by the same names."""
    model = tf.saved_model.load(str(source))
    [described] = recipe["components"].values()
    signature = describe(source, recipe.get("signature", ""))["signature"]
    with function_graph(model.signatures[signature], described).as_default(), tf.compat.v1.Session() as inside:
        return session.ask(inside, question)


def original(source: Path, threads: int, component: str, feed: Arrays,
             signature: str = "") -> Dict[str, Callable[[], Any]]:
    """The call that a bench times."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    model = tf.saved_model.load(str(source))
    function = model.signatures[describe(source, signature)["signature"]]
    told = cast(function, feed)
    return {"{}/original".format(component): lambda kept=model: function(**told)}


def describe(folder: Path, signature: str = "") -> Dict[str, Any]:
    """Ports, files and kinds of ops of a signature of a SavedModel, read as protobuf; nothing of it is run.

    signature: its name; else serving_default, or the only one. Raises Refusal on what isn't such a SavedModel, or would
    do more than compute.
    """
    model = SavedModel()
    if not model_parsed(model, read(folder / "saved_model.pb", EXPECTED)) or not model.meta_graphs:
        raise refusal(folder, EXPECTED, "no protobuf of one")
    meta = next((meta for meta in model.meta_graphs if "serve" in meta.meta_info_def.tags), model.meta_graphs[0])
    ops = {node.op for nodes in (meta.graph_def.node, *(f.node_def for f in meta.graph_def.library.function))
           for node in nodes}
    outputs = [info.name for one in meta.signature_def.values() for info in one.outputs.values()]
    used = ops_run(meta.graph_def, outputs)
    reaching = sorted({op for op in ops if OUTSIDE.search(op)} | {op for op in used if SAVING.search(op)})
    if reaching:
        raise Refusal("{}: expected a graph that computes alone, found {}, which reaches out of it, to files or to "
                      "Python: cut that off, and save the rest".format(folder, ", ".join(reaching)))
    name = chosen(folder, [one for one in sorted(meta.signature_def) if not one.startswith("__")], signature)
    told = meta.signature_def[name]
    nodes = flat(meta.graph_def, [info.name for info in told.outputs.values()])[0].node
    refuse_tables(folder, nodes)
    return {
        "signature": name,
        "inputs": ports(told.inputs.items(), functools.partial(largest, nodes)), "outputs": ports(told.outputs.items()),
        "files": sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()),
        "kind": "convolutions" if any("Conv" in op for op in ops) else
                "loops" if {"While", "StatelessWhile", "Enter"} & ops else "products",
    }


def chosen(folder: Path, names: List[str], asked: str) -> str:
    """The signature of these names that is meant. Raises Refusal where none is, or several are."""
    if not names:
        raise Refusal("{}: expected {}, found none: save it again with signatures=…".format(folder, EXPECTED))
    if asked and asked not in names:
        raise Refusal("{}: expected the signature {}, found {}: name one of these".format(
            folder, asked, ", ".join(names)))
    if not asked and SIGNATURE not in names and len(names) > 1:
        raise Refusal("{0}: expected the signature {1}, found {2}: choose one, make new … SIGNATURE={3} or signature = "
                      "\"{3}\" in the recipe, for instance".format(folder, SIGNATURE, ", ".join(names), names[0]))
    return asked or (SIGNATURE if SIGNATURE in names else names[0])


def refuse_tables(folder: Path, nodes: Sequence[NodeDef]) -> None:
    """Raise Refusal where nodes read what is neither an array nor a variable, as a lookup table."""
    held = {node.name: node.op for node in nodes if holds(node.op) and node.op not in RESOURCES}
    for node in nodes:
        for op in [held[name.partition(":")[0]] for name in node.input if name.partition(":")[0] in held]:
            table = "Table" in op
            raise Refusal("{}: expected a graph of arrays and variables alone, found {}, {}: {} before, and give the "
                          "model the {}".format(folder, "a lookup table" if table else op, node.name.split("/")[-2:][0],
                                                *("look up", "indices") if table else ("compute that", "result")))


def largest(nodes: Sequence[NodeDef], tensor: str, dtype: str) -> int:
    """The largest number that an integer input may be given, a tensor of a flat graph: the last row of the smallest
    table that it is an index of, or else of its dtype if that has few bits, or else 1.
    """
    named = {node.name: node for node in nodes}
    carrying, rows = {tensor.partition(":")[0]}, []
    for node in nodes:
        sources = [name.partition(":")[0] for name in node.input]
        if node.op in PASSING and carrying & set(sources):
            carrying.add(node.name)
        elif node.op in ("ResourceGather", "GatherV2", "Gather") and sources[1] in carrying:
            table = named[sources[0]]
            while table.op in ("ReadVariableOp", "Identity"):
                table = named[table.input[0].partition(":")[0]]
            shape = (table.attr["value"].tensor.tensor_shape if table.op == "Const" else table.attr["shape"].shape).dim
            rows += [shape[0].size] if shape and shape[0].size > 0 else []
    return min(rows) - 1 if rows else MOST.get(dtype, 1)


def ops_run(graph: GraphDef, outputs: Iterable[str]) -> Set[str]:
    """The ops that run for these tensors: what they need, what that waits for, and all of each function called."""
    nodes = {node.name: node for node in graph.node}
    library = {function.signature.name: function for function in graph.library.function}
    found, called = set(), set()  # type: Set[str], Set[str]
    waiting = [nodes[name] for name in {name.split(":")[0] for name in outputs} & set(nodes)]
    seen = {node.name for node in waiting}
    while waiting:
        node = waiting.pop()
        found.add(node.op)
        for name in {name.lstrip("^").split(":")[0] for name in node.input} & set(nodes) - seen:
            seen.add(name)
            waiting.append(nodes[name])
        bodies = list(set(named_functions(node)) & set(library) - called)
        while bodies:
            body = bodies.pop()
            called.add(body)
            for inner in library[body].node_def:
                found.add(inner.op)
                bodies += set(named_functions(inner)) & set(library) - called - set(bodies)
    return found


def ports(told: Iterable[Tuple[str, Any]], most: Optional[Callable[[str, str], int]] = None) -> List[Port]:
    """Ports of a signature as a recipe has them: dynamic axes with names, numbers as float32 or int64, the latter with
    the largest that they may be given, as `most` tells it by tensor and dtype.
    """
    found = []
    for name, info in sorted(told):
        dtype = tf.as_dtype(info.dtype)
        if not (dtype.is_floating or dtype.is_integer or dtype.is_bool) or info.tensor_shape.unknown_rank:
            raise Refusal("the port {}: expected numbers of a known rank, found {}: cut the model behind it and save "
                          "it again".format(name, "an unknown rank" if info.tensor_shape.unknown_rank else dtype.name))
        shape = [axis.size if axis.size >= 0 else AXES[min(number, 2)].format(number)
                 for number, axis in enumerate(info.tensor_shape.dim)]
        found.append({"name": name, "dtype": "float32" if dtype.is_floating else "int64", "shape": shape})
        if most and not dtype.is_floating:
            found[-1]["most"] = most(info.name, dtype.name)
    return found


if __name__ == "__main__":
    try:
        print(json.dumps(describe(Path(sys.argv[1]), *sys.argv[2:])))
    except Refusal as error:
        print(error, file=sys.stderr)
        sys.exit(REFUSED)
