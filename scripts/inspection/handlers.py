"""What tf2onnx makes of each op of a TensorFlow graph: asked of tf2onnx itself, step by step (Python 3.7).

Its own reader makes its graph (translate.py), its own rewriters and handlers go over it, together with the texts that
are ready for ops that it lacks (scripts/rewrite.py), and what becomes of each node is written down. Folding by
TensorFlow is left out: that would run the graph's ops.
"""

import functools
import logging
from typing import Any, Dict, List, NamedTuple, Sequence, Set, Tuple

import tf2onnx.tfonnx
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.python.framework import op_def_registry
from tf2onnx.handler import tf_op

from scripts import rewrite
from scripts.inspection.graph import folded, holds, named_functions, takes_resource
from scripts.inspection.translate import Arrays, frozen, translated, understood
from scripts.job import Refusal

OPSET = 17
MAIN = "tfjs_model"  # as tf2onnx's reader calls it
CONVERTED, REWRITTEN, LACKING, IMPOSSIBLE = "converted", "rewritten", "needs a handler", "impossible"


class Fate(NamedTuple):
    """What becomes of a node."""
    name: str
    op: str
    verdict: str
    why: str


class Watched:
    """What tf2onnx did to the nodes of its graphs, by the name of the graph."""

    def __init__(self) -> None:
        self.read: Dict[str, Set[str]] = {}  # the nodes that were there at first
        self.taken: Dict[Tuple[str, str], str] = {}  # a node, and the rewriter that took it away
        self.running: Dict[str, Tuple[Set[Tuple[str, str]], str]] = {}  # the nodes before a rewriter, and its name
        self.left: Dict[str, Dict[str, str]] = {}  # the ops of the nodes that handlers were to convert
        self.refused: Dict[Tuple[str, str], str] = {}  # a node, and what its handler said
        self.table: Dict[str, Any] = {}

    def note(self, place: Any) -> None:
        """Write down what the last rewriter took away from a graph."""
        before, name = self.running.pop(place.graph_name, (set(), ""))
        for gone, _ in before - {(node.name, node.type) for node in living_nodes(place)}:
            self.taken[place.graph_name, gone] = name


def judged(graph: GraphDef, arrays: Arrays, outputs: Sequence[str]) -> Tuple[List[Fate], str]:
    """The fate of every node of a flat graph, and why tf2onnx's rewriters couldn't be asked, or nothing.

    arrays: values of constants that have none in the graph.
    """
    watched = Watched()
    try:
        graph = frozen(graph, outputs)
        convert(graph, arrays, outputs, watched)
        flaw = ""
    except (Refusal, MemoryError):
        raise
    except Exception as error:  # a graph that isn't whole, or one that this tf2onnx doesn't understand
        flaw = "{}: {}".format(type(error).__name__, " ".join(str(error).split())[:200])
    table = watched.table or dict(tf_op.create_mapping(OPSET, None), **dict.fromkeys(rewrite.ready()))
    bodies = [(function.signature.name, function.node_def) for function in graph.library.function]
    nodes = dict([(MAIN, graph.node), *bodies])
    living: Set[str] = set()  # the graphs that are converted, not swallowed by a rewriter together with their loop
    waiting = [MAIN]
    while waiting:
        place = waiting.pop()
        if place in nodes and place not in living:
            living.add(place)
            waiting.extend(name for node in nodes[place] if flaw or node.name in watched.left.get(place, {})
                           for name in named_functions(node))
    fates = [(place, fate_of(place, node, table, watched, bool(flaw))) for place in nodes for node in nodes[place]]
    constant = {(place, name) for place in nodes for name in folded(nodes[place])}
    fates = [(place, fate._replace(verdict=REWRITTEN, why="computed beforehand, of constants alone")
              if fate.verdict == LACKING and (place, fate.name) in constant else fate) for place, fate in fates]
    return [fate if place in living else fate._replace(verdict=REWRITTEN, why="with the loop that it is in")
            for place, fate in fates], flaw


def fate_of(place: str, node: NodeDef, table: Dict[str, Any], watched: Watched, unasked: bool) -> Fate:
    """What becomes of a node of a graph. unasked: only the table of handlers is known."""
    left = watched.left.get(place, {})
    if not understood(node.op):
        return Fate(node.name, node.op, IMPOSSIBLE, "no op of TensorFlow's: its code is in a library of somebody's own")
    if node.op.startswith("Placeholder") or node.op == "Const":
        return Fate(node.name, node.op, CONVERTED, "an input" if node.op != "Const" else "a constant")
    if node.op == "Identity" and not unasked and node.name not in watched.read.get(place, ()):
        return Fate(node.name, node.op, REWRITTEN, "does nothing, and is left out")
    if not unasked and left.get(node.name) != node.op:
        return Fate(node.name, node.op, REWRITTEN, watched.taken.get((place, node.name), "with its neighbours"))
    if "LookupTable" in node.op or "HashTable" in node.op:
        return Fate(node.name, node.op, IMPOSSIBLE, "a lookup table, whose keys and values aren't in the graph")
    if (holds(node.op) or takes_resource(node.op)) and not unasked and (
            node.op not in table or (place, node.name) in watched.refused):
        return Fate(node.name, node.op, IMPOSSIBLE, "holds or reads a resource: of these ONNX has none but variables")
    if node.op in rewrite.ready() and (place, node.name) not in watched.refused:
        return Fate(node.name, node.op, REWRITTEN, "as {} has it".format(rewrite.place(node.op, {})))
    if node.op in table and (place, node.name) not in watched.refused:
        body = named_functions(node)
        return Fate(node.name, node.op, REWRITTEN if body else CONVERTED, "its functions become bodies" if body else "")
    if node.op in table:
        return Fate(node.name, node.op, LACKING, "its handler says: " + watched.refused[place, node.name])
    if op_def_registry.get(node.op).is_stateful:
        return Fate(node.name, node.op, IMPOSSIBLE, "has a state, or reaches out of the graph: ONNX has no such thing")
    return Fate(node.name, node.op, LACKING, "")


def convert(graph: GraphDef, arrays: Arrays, outputs: Sequence[str], watched: Watched) -> None:
    """Let tf2onnx read, rewrite and map a frozen graph, and watch it."""
    tfonnx = tf2onnx.tfonnx
    run_rewriters, mapping = tfonnx.run_rewriters, tfonnx.tensorflow_onnx_mapping

    def watch_rewriters(place: Any, rewriters: List[Any], continue_on_error: bool) -> None:
        run_rewriters(place, [watch_rewriter(rewriter) for rewriter in rewriters], continue_on_error)

    def watch_rewriter(rewriter: Any) -> Any:
        @functools.wraps(rewriter)
        def watching(place: Any, nodes: List[Any]) -> List[Any]:
            watched.note(place)
            watched.running[place.graph_name] = ({(node.name, node.type) for node in living_nodes(place)},
                                                 rewriter.__name__)
            return rewriter(place, nodes)
        return watching

    def watch_mapping(place: Any, table: Dict[str, Any], *given: Any, **named: Any) -> Any:
        if place.graph_name not in watched.left:
            watched.note(place)
            watched.table = table
            watched.left[place.graph_name] = {node.name: node.type for node in living_nodes(place)
                                              if not node.need_skip()}
            table = {op: (watch_handler(handler, place.graph_name), options)
                     for op, (handler, options) in table.items()}
        return mapping(place, table, *given, **named)

    def watch_handler(handler: Any, graph_name: str) -> Any:
        def watching(place: Any, node: Any, **named: Any) -> None:
            name = node.name
            try:
                handler(place, node, **named)
            except Exception as error:
                watched.refused[graph_name, name] = " ".join(str(error).split())[:200]
                raise
        return watching

    main, functions = translated(graph, arrays, outputs)
    for place in [main, *functions]:
        watched.read[place.graph_name] = {node.name for node in place.get_nodes()}
        place.set_config(None, OPSET, None)
    logging.disable(logging.CRITICAL)
    tfonnx.run_rewriters, tfonnx.tensorflow_onnx_mapping = watch_rewriters, watch_mapping
    try:
        tfonnx.clear_functions()
        tfonnx.process_graphs(main, functions, taught(graph), [], [], True, None, None, None)
    except Exception:
        if main.graph_name not in watched.left:  # later than that, nothing more is to be learned
            raise
    finally:
        tfonnx.run_rewriters, tfonnx.tensorflow_onnx_mapping = run_rewriters, mapping


def taught(graph: GraphDef) -> Dict[str, Any]:
    """What tf2onnx is told of the ops of a graph that have a text here."""
    ops = [node.op for nodes in [graph.node, *(f.node_def for f in graph.library.function)] for node in nodes]
    return {op: (rewrite.to_function(function, rewrite.place(op, {})), [])
            for op, function in rewrite.functions(ops, {}, OPSET).items()}


def living_nodes(place: Any) -> List[Any]:
    """The nodes of tf2onnx's graph that its outputs need, and those of the bodies in them."""
    found: Dict[str, Any] = {}
    bodies: List[Any] = []
    waiting = [place.get_node_by_output(name) for name in place.outputs]
    while waiting:
        node = waiting.pop()
        if node is not None and node.name not in found:
            found[node.name] = node
            inner = list((node.get_body_graphs() or {}).values())
            bodies.extend(inner)
            names = [*node.input, *(node.get_implicit_inputs() if inner else ())]
            waiting.extend(place.get_node_by_output(name) for name in names)
    return [*found.values(), *(node for body in bodies for node in living_nodes(body))]
