"""The arrays of Coconet's edition for browsers out of TensorFlow.js' manifest, every one accounted for (Python 3.7)."""

import re
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np

from models.coconetjs import architecture
from scripts import tfjs
from scripts.arrays import flaws, listed
from scripts.job import Refusal

# What training leaves besides; and biases that tf.contrib's depthwise convolutions had and magenta-js doesn't read.
UNREAD = re.compile(r"(^|/)(Adam(_1)?|beta[12]_power|learning_rate|global_step)$")
UNREAD_OF_SPLIT = "SeparableConv2d/biases"


def read(folder: Path) -> Tuple[Dict[str, np.ndarray], List[architecture.Layer]]:
    """The network's arrays, float32 by name, and its layers.

    Quantized ones are widened. Raises Refusal naming each array that is missing, left over, of another shape or dtype,
    or not finite.
    """
    place, groups = described(folder)
    told = {one.name: one for group in groups for one in group.weights if not UNREAD.search(one.name)}
    try:
        blocks, filters = architecture.sizes({name: one.shape for name, one in told.items()})
    except Refusal as refusal:
        raise Refusal("{}: {}".format(place, refusal)) from None
    layers = architecture.layers(blocks, filters)
    for name in unread(folder, layers):
        del told[name]
    expected = {name: shape for layer in layers for name, shape in layer.shapes().items()}
    wrong = flaws({name: one.shape for name, one in told.items()}, expected)
    wrong += ["{} is {}, expected float32".format(name, one.dtype) for name, one in told.items()
              if name in expected and one.dtype != "float32"]
    if wrong:
        raise Refusal("{}: expected the {} arrays of {} layers of {} filters, found {}: give the weights of this "
                      "network, all of them".format(place, len(expected), len(layers), filters, "; ".join(wrong)))
    arrays = tfjs.arrays(place, groups)
    damaged = [name for name in expected if not np.isfinite(arrays[name]).all()]
    damaged += [name for name in expected if name.endswith("/popvariance") and name not in damaged
                and (arrays[name] < 0).any()]
    if damaged:
        raise Refusal("{}: expected finite numbers, and variances of 0 or more, found others in {}: fetch it "
                      "again".format(place, listed(damaged)))
    return {name: arrays[name] for name in expected}, layers


def described(folder: Path) -> Tuple[Path, List[tfjs.Group]]:
    """The place of a folder's manifest, and what it tells."""
    place = folder / tfjs.MANIFEST
    return place, tfjs.groups(place, place.read_bytes())


def unread(folder: Path, layers: List[architecture.Layer]) -> List[str]:
    """The arrays of a manifest that are of these layers, and that magenta-js doesn't read."""
    _, groups = described(folder)
    names = {one.name for group in groups for one in group.weights}
    possible = ["{}/{}".format(layer.name, UNREAD_OF_SPLIT) for layer in layers if layer.splits > 1]
    return [name for name in possible if name in names]
