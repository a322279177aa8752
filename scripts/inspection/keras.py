"""Reads what Keras writes as data: the layers of a configuration, an H5 file; nothing is built from it (Python 3.7)."""

import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import h5py
from tensorflow.keras import Model
from tensorflow.python.keras import constraints, initializers, regularizers
from tensorflow.python.keras.layers import serialization

from scripts.inspection.report import Report, checked, look, refusal, report, section, shape_text, totals
from scripts.job import Refusal

H5 = "a model or weights of Keras as HDF5"
MOST_CONFIGURATION = 2**26
RUNS = "Lambda"  # whose configuration holds Python's bytecode
OWN, FOREIGN, CODE = "Keras' own", "custom", "would run code"
LAYERS = ("_tf_keras_layer", "_tf_keras_input_layer", "_tf_keras_rnn_layer", "_tf_keras_network", "_tf_keras_model",
          "_tf_keras_sequential")  # as a SavedModel calls them
IN_PLACE = ("layers", "layer", "forward_layer", "backward_layer", "cell", "cells")
Weight = Tuple[str, Sequence[int], str, int]


class Layer(NamedTuple):
    """A layer, or another object of a configuration that Keras would make by its class's name."""
    scope: str
    kind: str
    judged: str


def known(kind: str) -> bool:
    """Whether Keras' own tables have a class of this name."""
    serialization.populate_deserializable_objects()
    tables = [serialization.LOCAL.ALL_OBJECTS, vars(initializers), vars(regularizers), vars(constraints)]
    initializers.populate_deserializable_objects()
    tables.append(initializers.LOCAL.ALL_OBJECTS)
    return any(kind in table for table in tables) or kind in ("Model", "Policy", Model.__name__)


def judge(scope: str, kind: str) -> Layer:
    return Layer(scope, kind, CODE if kind == RUNS else OWN if known(kind) else FOREIGN)


def layers_of(configuration: Any) -> List[Layer]:
    """The layers of a model's configuration, and whatever in it isn't Keras'; their scopes are the layers' names."""
    found: List[Layer] = []
    waiting: List[Tuple[Any, str, bool]] = [(configuration, "", True)]
    while waiting:
        told, scope, layer = waiting.pop()
        if isinstance(told, dict):
            if isinstance(told.get("class_name"), str) and "config" in told:
                config = told["config"] if isinstance(told["config"], dict) else {}
                name = told.get("name") or config.get("name")
                scope = "/".join(part for part in (scope, str(name or "")) if part)
                judged = judge(scope, told["class_name"])
                if layer or judged.judged != OWN:
                    found.append(judged)
                waiting.append((told["config"], scope, False))
            else:
                waiting.extend((value, scope, key in IN_PLACE) for key, value in reversed(list(told.items())))
        elif isinstance(told, list):
            waiting.extend((value, scope, layer) for value in reversed(told))
    return found


def saved_layers(objects: Any) -> List[Layer]:
    """The layers that a SavedModel's graph of objects tells of; their scopes are the names of those around them."""
    found: List[Layer] = []
    waiting, seen = [(0, "")], set()
    while waiting:
        number, scope = waiting.pop()
        if number in seen or not 0 <= number < len(objects.nodes):
            continue
        seen.add(number)
        node = objects.nodes[number]
        if node.user_object.identifier in LAYERS:
            try:
                told = json.loads(node.user_object.metadata)
                scope = "/".join(part for part in (scope, str(told["name"])) if part)
                found.append(judge(scope, str(told["class_name"])))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise Refusal("saved_model.pb: expected the metadata of a layer of Keras' below {}, found none that "
                              "can be read ({}): save the model again".format(
                                  scope or "the root", type(error).__name__)) from error
        waiting.extend((child.node_id, scope) for child in reversed(node.children))
    return found


def sections(layers: Sequence[Layer]) -> List[Dict[str, Any]]:
    return [section("layers", ("layer", "class", "verdict"), layers)]


def advice(layers: Sequence[Layer]) -> List[str]:
    """What to do next about layers that aren't Keras'."""
    foreign = sorted({layer.kind for layer in layers if layer.judged == FOREIGN})
    said = []
    if foreign:
        said.append("{} {} not Keras': to load it, give custom_objects with the class as its authors wrote it; a "
                    "SavedModel's graph computes without it.".format(", ".join(foreign),
                                                                     "are" if len(foreign) > 1 else "is"))
    if any(layer.judged == CODE for layer in layers):
        said.append("Lambda layers hold Python's bytecode, which loading would run: get their source, and write them "
                    "as a layer.")
    return said


def h5(path: Path) -> Report:
    """A model or weights as HDF5: the configuration's layers, the arrays; no array is read, no link followed."""
    start = checked(path, H5, most=2**40)
    if not start.startswith(b"\x89HDF"):
        raise refusal(path, H5, look(start))
    try:
        with h5py.File(str(path), "r") as file:
            configuration = configured(path, file)
            weights = list(arrays(path, file))
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise refusal(path, H5, "one that can't be read ({})".format(str(error)[:200])) from error
    layers = layers_of(configuration) if configuration is not None else []
    following = advice(layers)
    if configuration is None:
        following.append("It holds weights alone: build the model with its authors' code, then load_weights.")
    elif not following:
        following.append("Every class is Keras' own: load it with tf.keras.models.load_model in the toolchain legacy, "
                         "save it as a SavedModel, and inspect that: its ops are told there.")
    return report([*sections(layers), section("weights", ("name", "shape", "dtype"), (
        (name, shape_text(shape), dtype) for name, shape, dtype, _ in weights))],
        [totals("weights", len(weights), sum(count(shape) for _, shape, _, _ in weights),
                sum(size for _, _, _, size in weights))], following)


def configured(path: Path, file: Any) -> Any:
    """The model's configuration as JSON says it, or None."""
    if "model_config" not in file.attrs:
        return None
    told = file.attrs["model_config"]
    if len(told) > MOST_CONFIGURATION:
        raise refusal(path, H5, "a configuration of {:,} bytes".format(len(told)))
    try:
        return json.loads(told.decode() if isinstance(told, bytes) else told)
    except (ValueError, RecursionError, TypeError, AttributeError) as error:
        raise refusal(path, H5, "a configuration that is no JSON ({})".format(type(error).__name__)) from error


def arrays(path: Path, file: Any) -> Iterator[Weight]:
    """The arrays of a file by their metadata, but for an optimizer's."""
    waiting, seen = [("", file)], set()
    while waiting:
        name, group = waiting.pop()
        for key in sorted(group, reverse=True):
            inner = "/".join(part for part in (name, key) if part)
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise Refusal("{}: expected arrays in the file itself, found a link at {}: it is made to read other "
                              "files, don't use it".format(path, inner))
            thing = group[key]
            address = h5py.h5o.get_info(thing.id).addr
            if isinstance(thing, h5py.Group):
                if address not in seen and inner != "optimizer_weights":
                    seen.add(address)
                    waiting.append((inner, thing))
            elif isinstance(thing, h5py.Dataset):
                if thing.id.get_create_plist().get_external_count():
                    raise Refusal("{}: expected arrays in the file itself, found {} in another: it is made to read "
                                  "other files, don't use it".format(path, inner))
                shape = thing.shape or ()
                yield inner, shape, thing.dtype.name, count(shape) * thing.dtype.itemsize


def count(shape: Sequence[int]) -> int:
    total = 1
    for length in shape:
        total *= int(length)
    return total
