"""Between what values the arrays of the authors' edition lie, and those of networks like it (Python 3.7 and later)."""

import json
from pathlib import Path
from typing import Sequence, Tuple

import numpy as np

from models.coconetjs import architecture

RANGES = json.loads(Path(__file__).with_name("ranges.json").read_text(encoding="utf-8"))["arrays"]
REAL = architecture.layers(5, 128)  # what they are of
STEPS = 255  # of a range
POINTWISE = ("pointwise_weights", "kernel")


def bounds(name: str, layers: Sequence[architecture.Layer]) -> Tuple[float, float]:
    """The least value and the step of the authors' array that an array is like: of the same layer, counted from the
    end for the last two.

    Products over fewer channels have larger weights, so that their results are as large.
    """
    index = int(architecture.LAYER.match(name).group(1))
    like = index if index < len(layers) - 2 else index - len(layers) + len(REAL)
    low, step = RANGES[name.replace("conv{}/".format(index), "conv{}/".format(like))]
    if index and name.endswith(POINTWISE):
        factor = float(np.sqrt(REAL[0].outputs / layers[0].outputs))
        return low * factor, step * factor
    return low, step
