"""The parameters of a Flax model as a source: a file of flax.serialization's msgpack, or a T5X checkpoint."""

import functools
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from scripts import source, t5x
from scripts.arrays import Shapes, flaws
from scripts.job import Refusal

TRAINING = ("step", "opt_state", "optimizer", "tx")  # of a saved TrainState, beside the network's collections


def collections(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """The arrays by collection, "params" and whatever else belongs to the network, such as "batch_stats".

    float32 by names such as Dense_0/kernel, read without Flax; bfloat16 is widened, exactly, and counts stay whole
    numbers. What a training's state holds besides, of its optimizer, isn't read. Raises Refusal on a file that holds
    anything else, or numbers that aren't finite.
    """
    if path.is_dir():
        found = {"params": list(t5x.leaves(source.t5x_folder(path)).values())}
    else:
        try:
            told = msgpack.unpackb(path.read_bytes(), ext_hook=t5x.extension, object_pairs_hook=t5x.unique,
                                   max_array_len=1000)
            kept = {name: one for name, one in told.items() if name not in TRAINING} if "params" in told else {
                "params": told}
            found = {name: list(t5x.walk(path.parent, one)) for name, one in kept.items()}
        except Exception as error:  # msgpack raises whatever a damaged file leads it into
            raise Refusal(f"{path}: expected parameters as flax.serialization.to_bytes writes them, found a file that "
                          f"can't be read ({type(error).__name__}: {str(error)[:100]}): save them again") from error
    return {name: {leaf.name: numbers(leaf) for leaf in leaves} for name, leaves in found.items()}


def numbers(leaf: t5x.Leaf) -> np.ndarray:
    """A leaf's array: counts and the like as they are, all others in float32. Raises Refusal on NaN or infinity."""
    whole = leaf.inline is not None and leaf.inline.dtype.kind in "iub"
    return leaf.inline if whole else t5x.load(leaf).astype(np.float32)


def arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of all collections: parameters by their names, others by the collection's and theirs."""
    return {name if collection == "params" else f"{collection}/{name}": array
            for collection, found in collections(path).items() for name, array in found.items()}


def variables(path: Path) -> dict[str, Any]:
    """The collections as a module's init and apply have them, dictionaries in dictionaries."""
    told: dict[str, Any] = {}
    for collection, found in collections(path).items():
        inside = told.setdefault(collection, {})
        for name, array in found.items():
            *scopes, leaf = name.split("/")
            functools.reduce(lambda node, scope: node.setdefault(scope, {}), scopes, inside)[leaf] = array
    return told


def require(found: dict[str, np.ndarray], known: Shapes, path: Path) -> None:
    """Raises Refusal naming each array that the network lacks, or that the checkpoint does."""
    if wrong := flaws({name: array.shape for name, array in found.items()}, known):
        raise Refusal(f"{path}: expected the arrays of the network in ask.py, found {'; '.join(wrong)}: change the "
                      "network, or give the checkpoint that is its own")
