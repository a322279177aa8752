"""Reads a model of TF.js as data: JSON and shards of weights, their sizes compared, none outside (Python 3.7)."""

import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
from google.protobuf.json_format import ParseDict
from tensorflow.core.framework.graph_pb2 import GraphDef
from tf2onnx.tfjs_utils import fix_string_attr, read_tfjs_weight

from scripts.inspected import read, refusal
from scripts.job import Refusal
from scripts.unpack import outside

MOST_JSON = 2**28
BYTES = {"float32": 4, "int32": 4, "complex64": 8, "float16": 2, "uint16": 2, "uint8": 1, "bool": 1}
NAMES = ("model.json", "weights_manifest.json", "tensorflowjs_model.pb")
Weight = Tuple[str, List[int], str, int]  # name, shape, dtype, bytes in a shard


class Model(NamedTuple):
    weights: List[Weight]
    arrays: Dict[str, np.ndarray]  # their values
    graph: Optional[GraphDef]
    outputs: List[str]  # that a signature tells
    layers: Any  # the configuration of Keras' layers, where it is no graph


def tfjs_model(path: Path) -> Model:
    """The model in a folder, or of its model.json. Raises Refusal on what isn't whole, or not its own."""
    if path.is_dir():
        path = next((path / name for name in NAMES[:2] if (path / name).exists()), path / NAMES[0])
    expected = "the model.json or weights_manifest.json of TF.js"
    try:
        told = json.loads(read(path, expected, MOST_JSON).decode())
        topology = told.get("modelTopology") if isinstance(told, dict) else None
        weights, arrays = manifest(path, told["weightsManifest"] if isinstance(told, dict) else told)
        places = [told, told.get("userDefinedMetadata", {})] if topology else []
        signature = next((place["signature"] for place in places if place.get("signature")), {})
        outputs = [port["name"] for port in signature.get("outputs", {}).values()]
        graph = parsed(topology) if topology and "node" in topology else None
        layers = topology.get("model_config", topology) if topology and graph is None else None
    except (RecursionError, ValueError, KeyError, TypeError, AttributeError, LookupError) as error:
        raise refusal(path, expected, "one that can't be read ({}: {})".format(
            type(error).__name__, str(error)[:200])) from error
    return Model(weights, arrays, graph, [name if ":" in name else name + ":0" for name in outputs], layers)


def parsed(topology: Dict[str, Any]) -> GraphDef:
    """The graph of a graph model, whose constants have no values there."""
    library = topology.get("library", {})
    for node in [*topology["node"], *(node for function in library.get("function", [])
                                      for node in function.get("nodeDef", []))]:
        fix_string_attr(node)
        if node["op"] == "Const":
            node["attr"].pop("value", None)
    graph = GraphDef()
    ParseDict({"node": topology["node"], "library": library}, graph)
    return graph


def manifest(path: Path, groups: List[Any]) -> Tuple[List[Weight], Dict[str, np.ndarray]]:
    """The weights of a manifest, and their values out of its shards."""
    weights: List[Weight] = []
    arrays: Dict[str, np.ndarray] = {}
    for group in groups:
        shards = []
        for name in group["paths"]:
            if outside(name) or (path.parent / name).is_symlink():
                raise Refusal("{}: expected shards in its own folder, found {!r}: it is made to read other files, "
                              "don't use it".format(path, name))
            shards.append(read(path.parent / name, "a shard of weights"))
        described = [(str(told["name"]), [int(length) for length in told["shape"]],
                      str(told.get("quantization", {}).get("dtype", told["dtype"])), told) for told in group["weights"]]
        content, start = b"".join(shards), 0
        if any(length < 0 for _, shape, _, _ in described for length in shape):
            raise ValueError("a negative size")
        if all(dtype in BYTES for _, _, dtype, _ in described):
            declared = sum(size_of(shape, dtype) for _, shape, dtype, _ in described)
            if declared != len(content):
                raise Refusal("{}: expected {:,} bytes of weights in {}, found {:,}: the model is not whole, fetch it "
                              "again".format(path, declared, ", ".join(group["paths"])[:200], len(content)))
        for name, shape, dtype, told in described:
            _, arrays[name], size = read_tfjs_weight(told, content, start)
            weights.append((name, shape, dtype, size))
            start += size
    return weights, arrays


def size_of(shape: List[int], dtype: str) -> int:
    size = BYTES[dtype]
    for length in shape:
        size *= length
    return size
