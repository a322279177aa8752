"""Reads weights without a graph as data for `make inspect PTH=`: PyTorch's checkpoints, safetensors, Flax's msgpack."""

import json
import math
import sys
from pathlib import Path

import msgpack
import numpy as np

from scripts import t5x
from scripts.inspection.pth import leaves, of_arrays, pth
from scripts.inspection.report import Report, answer, checked, read, refusal

EXPECTED = "weights as torch.save, safetensors or flax.serialization write them"
MOST_HEADER = 10**8  # bytes, safetensors' own limit
BITS = {"F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16,
        "U16": 16, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BOOL": 8, "F6_E3M2": 6, "F6_E2M3": 6,
        "F4": 4}
DTYPES = {"BF16": "bfloat16", "BOOL": "bool", "F": "float", "I": "int", "U": "uint", "C": "complex"}
MAPS = {*range(0x81, 0x90), 0xDE, 0xDF}  # what msgpack begins a dictionary with that isn't empty


def weights(path: Path) -> Report:
    """The arrays of a file by name, whichever of the three it is. Raises Refusal on what is none of them."""
    start = checked(path, EXPECTED, most=2**40)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= MOST_HEADER:
        return safetensors(path)
    return flax(path) if start[0] in MAPS else pth(path)


def safetensors(path: Path) -> Report:
    """What the header of safetensors says: its arrays, which fill the rest of the file one after the other."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = file.read(size)
    found, end = [], 0
    try:
        told = json.loads(header, object_pairs_hook=t5x.unique)
        metadata = told.pop("__metadata__", {})
        for name, one in sorted(told.items(), key=lambda item: item[1]["data_offsets"]):
            shape, (begins, end_of_it) = tuple(one["shape"]), one["data_offsets"]
            if begins != end or (end_of_it - begins) * 8 != math.prod(shape) * BITS[one["dtype"]]:
                raise ValueError(f"{name} isn't where it should be")
            end = end_of_it
            found.append((name, shape, dtype(one["dtype"]), end - begins))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise refusal(path, EXPECTED, f"safetensors whose header can't be read ({type(error).__name__})") from error
    if 8 + size + end != path.stat().st_size:
        raise refusal(path, EXPECTED, f"safetensors of {path.stat().st_size:,} bytes whose header tells of "
                      f"{8 + size + end:,}")
    return of_arrays(found, metadata.items(), "torch")


def dtype(name: str) -> str:
    """A dtype of safetensors as PyTorch calls it."""
    return DTYPES.get(name) or DTYPES[name[0]] + name[1:].lower()


def flax(path: Path) -> Report:
    """What flax.serialization wrote: arrays by their paths, and plain values."""
    try:
        told = msgpack.unpackb(read(path, EXPECTED), ext_hook=t5x.extension, object_pairs_hook=t5x.unique,
                               max_array_len=1000)
    except Exception as error:  # msgpack raises whatever a damaged file leads it into
        raise refusal(path, EXPECTED, f"msgpack that can't be read ({type(error).__name__})") from error
    found = list(leaves(told, "/"))
    return of_arrays([(name, leaf.shape, leaf.dtype.name, leaf.nbytes) for name, leaf in found
                      if isinstance(leaf, np.ndarray)],
                     [(name, leaf) for name, leaf in found if not isinstance(leaf, np.ndarray)], "jax")


if __name__ == "__main__":
    answer(weights, Path(sys.argv[1]))
