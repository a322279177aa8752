"""A TensorFlow graph as plain nodes: its calls put in their places, only what its outputs need (Python 3.7).

Nothing is imported into TensorFlow, which would evaluate constants on the way, and could open files for that.
"""

import re
from typing import Any, Callable, Dict, Iterable, Iterator, List, Sequence, Set, Tuple

from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.types_pb2 import DT_RESOURCE
from tensorflow.python.framework import op_def_registry

from scripts.job import Refusal

CALLS = ("PartitionedCall", "StatefulPartitionedCall")
OUTSIDE = re.compile("PyFunc|ReadFile|WriteFile|MatchingFiles|Dataset|Reader|Rpc")  # in no model's graph
CONTROL = {"Enter", "RefEnter", "Exit", "Switch", "RefSwitch", "Merge", "RefMerge", "NextIteration", "LoopCond"}
MOST_NODES = 200_000
MOST_DEPTH = 50  # of calls in calls
Nodes = Dict[str, NodeDef]


def flat(graph: GraphDef, outputs: Sequence[str]) -> Tuple[GraphDef, List[str]]:
    """The part of a graph that outputs need, each called `node:number`, and what they are called in it.

    Functions that are called are in the place of their calls; those of loops and branches stay functions.

    Raises Refusal where the nodes don't make a graph.
    """
    library = {function.signature.name: function for function in graph.library.function}
    nodes, tensor = inlined(graph.node, {}, library)
    made = GraphDef(versions=graph.versions)
    found = list(dict.fromkeys(tensor(name) for name in outputs))
    made.node.extend(ordered(nodes, found, ()))
    done: Set[str] = set()
    waiting = list(made.node)
    while waiting:
        for name in set(named_functions(waiting.pop())) & set(library) - done:
            done.add(name)
            function = made.library.function.add()
            function.CopyFrom(library[name])
            given = {argument.name: argument.name for argument in function.signature.input_arg}
            nodes, tensor = inlined(library[name].node_def, given, library)
            for key, value in library[name].ret.items():
                function.ret[key] = tensor(value)
            del function.node_def[:]
            function.node_def.extend(ordered(nodes, list(function.ret.values()), given))
            waiting.extend(function.node_def)
    return made, found


def inlined(definitions: Iterable[NodeDef], given: Dict[str, str],
            library: Dict[str, Any]) -> Tuple[Nodes, Callable[[str], str]]:
    """The nodes by name with those of called functions among them, and what finds a tensor by the name it had.

    given: the arguments of a function, which are tensors without a node.
    """
    nodes: Nodes = {}
    results: Dict[str, List[str]] = {}  # of a call, what its outputs are called

    def place(body: Iterable[NodeDef], scope: str, known: Dict[str, str], depth: int) -> Callable[[str], str]:
        local = {node.name: node for node in body}

        def plain(name: str) -> str:
            parts = name.split(":")
            if parts[0] in known:
                return known[parts[0]]
            if parts[0] not in local:
                raise Refusal("expected a node {} in {}, found none: the file is not whole, fetch it again".format(
                    parts[0], scope or "the graph"))
            number = int(parts[-1]) if len(parts) > 1 else 0
            number += first_output(local[parts[0]], parts[1]) if len(parts) == 3 else 0
            return "{}{}:{}".format(scope, parts[0], number)

        for node in local.values():
            copy = nodes[scope + node.name] = NodeDef()
            copy.CopyFrom(node)
            copy.name = scope + node.name
            copy.input[:] = [plain(name) for name in node.input if not name.startswith("^")]
            if len(nodes) > MOST_NODES or depth > MOST_DEPTH:
                raise Refusal("expected at most {:,} nodes and calls {} deep, found more at {}: give a smaller "
                              "model".format(MOST_NODES, MOST_DEPTH, node.name))
            called = library.get(node.attr["f"].func.name) if node.op in CALLS else None
            if called:
                arguments = [argument.name for argument in called.signature.input_arg]
                inner = place(called.node_def, copy.name + "/", dict(zip(arguments, copy.input)), depth + 1)
                results[copy.name] = [inner(called.ret[result.name]) for result in called.signature.output_arg]
        return plain

    top = place(definitions, "", given, 0)

    def behind(name: str) -> str:
        """The tensor that a call's output stands for, through all calls."""
        for _ in range(MOST_NODES):
            node, _, number = name.partition(":")
            if node not in results:
                return name
            name = results[node][int(number)]
        raise Refusal("expected calls that return something, found {} in a circle: the file is damaged, fetch it "
                      "again".format(name))

    for node in nodes.values():
        node.input[:] = [behind(name) for name in node.input]
    return nodes, lambda name: behind(top(name))


def first_output(node: NodeDef, argument: str) -> int:
    """The number of the first of a node's outputs that its op's definition gives this name."""
    number = 0
    definition = op_def_registry.get(node.op)
    for output in definition.output_arg if definition else ():
        if output.name == argument:
            break
        number += (node.attr[output.number_attr].i if output.number_attr else
                   len(node.attr[output.type_list_attr].list.type) if output.type_list_attr else 1)
    return number


def ordered(nodes: Nodes, outputs: Sequence[str], given: Iterable[str]) -> Iterator[NodeDef]:
    """The nodes that outputs need, each after its inputs but where a loop of TensorFlow 1 goes round."""
    done, entered = set(given), set(given)
    waiting = [(name.partition(":")[0], False) for name in reversed(outputs)]
    late: List[str] = []
    while waiting or late:
        name, ready = waiting.pop() if waiting else (late.pop(), False)
        if ready:
            done.add(name)
            yield nodes[name]
        elif name not in done:
            if name in entered:
                raise Refusal("expected nodes that can be put in order, found {} in a circle: the file is damaged, "
                              "fetch it again".format(name))
            entered.add(name)
            waiting.append((name, True))
            for source in reversed([other.partition(":")[0] for other in nodes[name].input]):
                if source in nodes and (nodes[name].op, nodes[source].op) == ("Merge", "NextIteration"):
                    late.append(source)
                elif source not in done:
                    waiting.append((source, False))


def bypassed(nodes: Iterable[NodeDef], outputs: Iterable[str]) -> List[NodeDef]:
    """The nodes without each Identity that does nothing, as Grappler leaves them out for tf2onnx.

    One behind a Switch stays, as it is what a branch of TensorFlow 1 goes on with; and so does an output.
    """
    named = {node.name: node for node in nodes}
    kept = {name.partition(":")[0] for name in outputs}
    source: Dict[str, str] = {}
    for node in named.values():
        origin = named.get(node.input[0].partition(":")[0]) if node.input else None
        if node.op == "Identity" and node.name not in kept and not (origin and origin.op in ("Switch", "RefSwitch")):
            source[node.name + ":0"] = node.input[0]
    made = []
    for node in named.values():
        if node.name + ":0" not in source:
            copy = NodeDef()
            copy.CopyFrom(node)
            for number, name in enumerate(node.input):
                while name in source:
                    name = source[name]
                copy.input[number] = name
            made.append(copy)
    return made


def named_functions(node: NodeDef) -> List[str]:
    """The functions that a node's attributes name, such as a loop's body; those of a call are in its place already."""
    return [value.func.name for _, value in sorted(node.attr.items()) if value.func.name]


def holds(op: str) -> bool:
    """Whether an op stands for what others read and change: a variable, a lookup table, a queue."""
    definition = op_def_registry.get(op)
    return bool(definition) and ("HashTable" in op or (DT_RESOURCE in [port.type for port in definition.output_arg]
                                                       and not takes_resource(op)))


def takes_resource(op: str) -> bool:
    """Whether an op reads or changes such a thing."""
    definition = op_def_registry.get(op)
    return bool(definition) and (op.startswith("LookupTable") or
                                 DT_RESOURCE in [port.type for port in definition.input_arg])


def folded(nodes: Iterable[NodeDef]) -> Set[str]:
    """The nodes of a graph, or a body, that TensorFlow computes as it freezes it: of constants alone."""
    found: Set[str] = set()
    for node in nodes:
        definition = op_def_registry.get(node.op)
        constant = (definition and not definition.is_stateful and not named_functions(node)
                    and node.op not in CONTROL and not OUTSIDE.search(node.op))
        if constant and (node.op == "Const" or node.input) and all(
                name.partition(":")[0] in found for name in node.input):
            found.add(node.name)
    return found


def sinks(graph: GraphDef) -> List[str]:
    """The outputs of a graph that doesn't tell any: the nodes that no other needs."""
    needed = {name.lstrip("^").partition(":")[0] for node in graph.node for name in node.input}
    return [node.name + ":0" for node in graph.node if node.name not in needed and has_output(node)]


def has_output(node: NodeDef) -> bool:
    definition = op_def_registry.get(node.op)
    return node.op != "Const" and (definition is None or bool(definition.output_arg))
