"""The parameters of a Flax model as a source: a file of flax.serialization's msgpack, or a T5X checkpoint."""

from pathlib import Path

import msgpack
import numpy as np

from scripts import source, t5x
from scripts.arrays import Shapes, flaws
from scripts.job import Refusal


def arrays(path: Path) -> dict[str, np.ndarray]:
    """The parameters, float32 by names such as Dense_0/kernel, read without Flax; bfloat16 is widened, exactly.

    Raises Refusal on a file that holds anything else, or numbers that aren't finite.
    """
    if path.is_dir():
        leaves = t5x.leaves(source.t5x_folder(path)).values()
    else:
        try:
            told = msgpack.unpackb(path.read_bytes(), ext_hook=t5x.extension, object_pairs_hook=t5x.unique,
                                   max_array_len=1000)
            leaves = list(t5x.walk(path.parent, told.get("params", told)))
        except Exception as error:  # msgpack raises whatever a damaged file leads it into
            raise Refusal(f"{path}: expected parameters as flax.serialization.to_bytes writes them, found a file that "
                          f"can't be read ({type(error).__name__}): save them again") from error
    return {leaf.name: t5x.load(leaf).astype(np.float32) for leaf in leaves}


def require(found: dict[str, np.ndarray], known: Shapes, path: Path) -> None:
    """Raises Refusal naming each array that the network lacks, or that the checkpoint does."""
    if wrong := flaws({name: array.shape for name, array in found.items()}, known):
        raise Refusal(f"{path}: expected the arrays of the network in ask.py, found {'; '.join(wrong)}: change the "
                      "network, or give the checkpoint that is its own")
