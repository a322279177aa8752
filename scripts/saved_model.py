"""A SavedModel as a source: what it answers, and its graph as ONNX (Python 3.7, TensorFlow 2.4.1).

`python -m scripts.saved_model FOLDER` says as JSON what a recipe has to know of it, and runs nothing of it.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Set, Tuple

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from scripts import detour, session
from scripts.freeze import function_graph
from scripts.inspection.graph import named_functions
from scripts.inspection.report import model_parsed, read, refusal
from scripts.job import REFUSED, Refusal, progress
from scripts.trace import Question

SIGNATURE = "serving_default"
AXES = ("batch", "length", "axis_{}")  # dynamic ones by their number: no signature says which are of one size
OUTSIDE = re.compile("PyFunc|ReadFile|WriteFile|MatchingFiles|Dataset|Reader|Rpc")  # in no model's graph
SAVING = re.compile("Save|Restore|Checkpoint")  # in every SavedModel's, but not where it computes
EXPECTED = "a SavedModel with the signature {}".format(SIGNATURE)
Arrays = Dict[str, np.ndarray]
Port = Dict[str, Any]  # as a recipe has it: name, dtype, shape


def export(source: Path, out: Path, recipe: Dict[str, Any], feeds: Dict[str, Arrays], **taught: Any) -> None:
    """Write the recipe's only component as ONNX, and reference.npz with what the model answers to each feed by case.

    taught: rewriters and handlers, as scripts.freeze.freeze has them. Raises Refusal where the model's ports aren't
    the recipe's, or an op has no ONNX equivalent.
    """
    [(component, described)] = recipe["components"].items()
    describe(source)  # before anything of it is run
    model = tf.saved_model.load(str(source))  # kept, as it holds the variables
    function = model.signatures[SIGNATURE]
    progress("converting the SavedModel's graph")
    with function_graph(function, described).as_default(), tf.compat.v1.Session() as inside:
        detour.write(inside, described, recipe, out / "{}.onnx".format(component), **taught)
    arrays = {}
    for case, feed in feeds.items():
        progress("asking the original: {}".format(case))
        answers = {name: tensor.numpy() for name, tensor in function(**cast(function, feed)).items()}
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
    with function_graph(model.signatures[SIGNATURE], described).as_default(), tf.compat.v1.Session() as inside:
        return session.ask(inside, question)


def original(source: Path, threads: int, component: str, feed: Arrays) -> Dict[str, Callable[[], Any]]:
    """The call that a bench times."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    model = tf.saved_model.load(str(source))
    function = model.signatures[SIGNATURE]
    told = cast(function, feed)
    return {"{}/original".format(component): lambda kept=model: function(**told)}


def describe(folder: Path) -> Dict[str, Any]:
    """Ports, files and kinds of ops of a SavedModel, read as protobuf; nothing of it is run.

    Raises Refusal on what isn't one, or would do more than compute.
    """
    model = SavedModel()
    if not model_parsed(model, read(folder / "saved_model.pb", EXPECTED)):
        raise refusal(folder, EXPECTED, "no protobuf of one")
    meta = next((meta for meta in model.meta_graphs if SIGNATURE in meta.signature_def), None)
    if meta is None:
        raise Refusal("{}: expected {}, found another: save it again with signatures=…".format(folder, EXPECTED))
    signature = meta.signature_def[SIGNATURE]
    ops = {node.op for nodes in (meta.graph_def.node, *(f.node_def for f in meta.graph_def.library.function))
           for node in nodes}
    outputs = [info.name for told in meta.signature_def.values() for info in told.outputs.values()]
    used = ops_run(meta.graph_def, outputs)
    reaching = sorted({op for op in ops if OUTSIDE.search(op)} | {op for op in used if SAVING.search(op)})
    if reaching:
        raise Refusal("{}: expected a graph that computes alone, found {}, which reaches out of it, to files or to "
                      "Python: cut that off, and save the rest".format(folder, ", ".join(reaching)))
    return {
        "inputs": ports(signature.inputs.items()), "outputs": ports(signature.outputs.items()),
        "files": sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()),
        "kind": "convolutions" if any("Conv" in op for op in ops) else
                "loops" if {"While", "StatelessWhile", "Enter"} & ops else "products",
    }


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


def ports(told: Iterable[Tuple[str, Any]]) -> List[Port]:
    """Ports of a signature as a recipe has them: dynamic axes with names, numbers as float32 or int64."""
    found = []
    for name, info in sorted(told):
        dtype = tf.as_dtype(info.dtype)
        if not (dtype.is_floating or dtype.is_integer or dtype.is_bool) or info.tensor_shape.unknown_rank:
            raise Refusal("the port {}: expected numbers of a known rank, found {}: cut the model behind it and save "
                          "it again".format(name, "an unknown rank" if info.tensor_shape.unknown_rank else dtype.name))
        shape = [axis.size if axis.size >= 0 else AXES[min(number, 2)].format(number)
                 for number, axis in enumerate(info.tensor_shape.dim)]
        found.append({"name": name, "dtype": "float32" if dtype.is_floating else "int64", "shape": shape})
    return found


if __name__ == "__main__":
    try:
        print(json.dumps(describe(Path(sys.argv[1]))))
    except Refusal as error:
        print(error, file=sys.stderr)
        sys.exit(REFUSED)
