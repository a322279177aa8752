"""MT3's arrays in PyTorch: which goes where, name by name."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from models.mt3.architecture import Transcriber
from models.mt3.weights import Sizes, expected


class Port(NamedTuple):
    """Where an array goes: a kernel [inputs, outputs] becomes a weight [outputs, inputs]."""

    name: str
    transposed: bool


def mapping(sizes: Sizes) -> dict[str, Port]:
    """The place of every array of the network in the state_dict, by its name in T5X."""
    return {name: Port(re.sub(r"layers_(\d+)", r"layers.\1", name.rpartition("/")[0]).replace("/", ".") + ".weight",
                       name.endswith("/kernel")) for name in expected(sizes)}


def load(arrays: Mapping[str, np.ndarray], sizes: Sizes) -> Transcriber:
    """The network with these arrays, float32 by name, ready to run.

    Raises KeyError on an array that isn't the network's or is missing, RuntimeError on one of another shape.
    """
    places = mapping(sizes)
    if wrong := sorted(arrays.keys() ^ places.keys()):
        raise KeyError(f"missing or unknown: {', '.join(wrong)}")
    state = {place.name: torch.from_numpy((arrays[name].T if place.transposed else arrays[name]).copy(order="C"))
             for name, place in places.items()}
    with torch.device("meta"):
        network = Transcriber(sizes)
    network.load_state_dict(state, strict=True, assign=True)
    return network.eval().requires_grad_(False)
