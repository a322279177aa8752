"""Reads a model of TF.js as data: JSON and shards of weights, their sizes compared, none outside (Python 3.7)."""

import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
from google.protobuf.json_format import ParseDict
from tensorflow.core.framework.graph_pb2 import GraphDef
from tf2onnx.tfjs_utils import fix_string_attr

from scripts import tfjs
from scripts.inspection.report import read, refusal

MOST_JSON = 2**28
NAMES = ("model.json", tfjs.MANIFEST, "tensorflowjs_model.pb")
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
        groups = tfjs.groups(path, told["weightsManifest"] if isinstance(told, dict) else told)
        places = [told, told.get("userDefinedMetadata", {})] if topology else []
        signature = next((place["signature"] for place in places if place.get("signature")), {})
        outputs = [port["name"] for port in signature.get("outputs", {}).values()]
        graph = parsed(topology) if topology and "node" in topology else None
        layers = topology.get("model_config", topology) if topology and graph is None else None
    except (RecursionError, ValueError, KeyError, TypeError, AttributeError, LookupError) as error:
        raise refusal(path, expected, "one that can't be read ({}: {})".format(
            type(error).__name__, str(error)[:200])) from error
    arrays = tfjs.arrays(path, groups)
    weights = [(one.name, list(one.shape), one.stored,
                sum(tfjs.LENGTH.size + len(text) for text in arrays[one.name].flat) if one.bytes is None else one.bytes)
               for group in groups for one in group.weights]
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
