"""What is told of a network, and how a framework's process writes all of its own (runs on Python 3.7 and later)."""

import ast
import json
import re
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

Axis = Union[int, str]
Arrays = Dict[str, np.ndarray]
SIZES = (2, 9)  # of an axis that is open, in the first case and in the second


class Port(NamedTuple):
    """Of a network, as its recipe has to describe it. most: the largest of whole numbers, the smallest is 0."""
    dtype: str
    shape: Tuple[Axis, ...]
    most: int = 1


def real(*shape: Axis) -> Port:
    return Port("float32", shape)


def whole(most: int, *shape: Axis) -> Port:
    return Port("int64", shape, most)


class Network(NamedTuple):
    """One to be converted.

    build: makes the framework's own object. outputs: where the weights don't tell them. signature: as SIGNATURE= of
    `make new`. edits: what the user changes in the model's folder after it, as (file, old text, new text). sizes: of
    open axes, where they can't be SIZES.
    then: which network is the same after the remedy that the sentence of this one's refusal names, and did: what was
    done to follow it.
    """
    name: str
    shows: str
    build: Callable[[], Any]
    inputs: Dict[str, Port]
    outputs: Dict[str, Port]
    signature: str
    edits: Sequence[Tuple[str, str, str]]
    sizes: Dict[str, Tuple[int, int]]
    then: Optional[str]
    did: Optional[str]


def declare(networks: List[Network], shows: str, inputs: Dict[str, Port], outputs: Optional[Dict[str, Port]] = None,
            signature: str = "", edits: Sequence[Tuple[str, str, str]] = (),
            sizes: Optional[Dict[str, Tuple[int, int]]] = None, then: Optional[str] = None,
            did: Optional[str] = None) -> Callable[[Any], Any]:
    """A decorator that adds a network to a list, by the name of what builds it."""
    def add(build: Any) -> Any:
        networks.append(Network(called(build.__name__), shows, build, inputs, outputs or {}, signature, edits,
                                sizes or {}, then, did))
        return build
    return add


def called(name: str) -> str:
    """A model's name by its class's, or its function's."""
    return re.sub("(?<!^)(?=[A-Z])", "_", name).lower()


def text(file: Path, name: str) -> str:
    """The class of a file that builds a network of that name, without its decorators (Python 3.8 and later)."""
    whole = file.read_text(encoding="utf-8")
    [found] = [node for node in ast.parse(whole).body if isinstance(node, ast.ClassDef) and called(node.name) == name]
    return str(ast.get_source_segment(whole, found))


def names(framework: str) -> List[str]:
    """Those of a framework's networks, in the order of its file, which isn't imported."""
    tree = ast.parse(Path(__file__).with_name(framework + ".py").read_text(encoding="utf-8"))
    return [called(node.name) for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))
            for one in node.decorator_list if isinstance(one, ast.Call) and getattr(one.func, "id", "") == "network"]


def seed(*words: str) -> int:
    return zlib.crc32("/".join(words).encode())


def feeds(network: Network) -> List[Arrays]:
    """What the framework and the artifacts are asked, which isn't what the build asks: numbers in [-1, 1), a tenth of
    them exactly 0, and in the second case the whole first entry of each input."""
    found = []
    for case in (0, 1):
        arrays = {}
        for name, port in network.inputs.items():
            draw = np.random.RandomState(seed(network.name, name, str(case)))
            shape = [network.sizes.get(axis, SIZES)[case] if isinstance(axis, str) else axis for axis in port.shape]
            array = draw.uniform(-1, 1, shape) if port.dtype == "float32" else draw.randint(0, port.most + 1, shape)
            array = np.where(draw.uniform(size=shape) < 0.1, 0, array).astype(port.dtype)
            if case and array.ndim:
                array[0] = 0
            arrays[name] = array
        found.append(arrays)
    return found


def write(networks: List[Network], folder: Path, save: Callable[[Any, Path], Path],
          answer: Callable[[Network, Any, Arrays], Arrays], source: Callable[[Network], Dict[str, str]]) -> None:
    """Write of each network its weights, by save, and what the framework answers to its feeds, as NAME.npz; and
    networks.json, which tells them all.

    source: the classes that the user puts into files of the model's folder, by the file's name.
    """
    told = []
    for network in networks:
        built = network.build()
        place = folder / network.name
        place.mkdir(parents=True)
        path = save(built, place)
        arrays = {}
        for case, feed in enumerate(feeds(network)):
            for name, array in {**feed, **answer(network, built, feed)}.items():
                arrays["{}/{}".format(case, name)] = array
        np.savez(str(place / "answers.npz"), **arrays)
        ports = {kind: [{"name": name, "dtype": port.dtype, "shape": list(port.shape),
                         **({"most": port.most} if port.dtype == "int64" else {})} for name, port in found.items()]
                 for kind, found in (("inputs", network.inputs), ("outputs", network.outputs))}
        told.append({"name": network.name, "shows": network.shows, "path": str(path), "signature": network.signature,
                     "edits": list(network.edits), "source": source(network), "then": network.then,
                     "did": network.did, **ports})
    (folder / "networks.json").write_text(json.dumps(told), encoding="utf-8")
