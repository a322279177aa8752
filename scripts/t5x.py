"""Reads T5X checkpoints without T5X: every layout that it has written since 2021.

A checkpoint is a folder. Its file `checkpoint` is Flax's msgpack of {"version", "optimizer": {"target", "state"}};
a leaf of the target, the weights, is an array there and then or the specification of a TensorStore, which is
an array in Zarr 2 in the folder target.<path with dots>. What a specification says of places isn't
believed, and the optimizer's state isn't read. (t5x/checkpoints.py, flax/serialization.py.)
"""

import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import msgpack
import numpy as np

from scripts.arrays import listed
from scripts.job import Refusal

NDARRAY, SCALAR = 1, 3  # of Flax's extension types
DTYPES = {"float32": np.dtype("<f4"), "<f4": np.dtype("<f4"), "float16": np.dtype("<f2"), "<f2": np.dtype("<f2"),
          "bfloat16": np.dtype(ml_dtypes.bfloat16)}
GZIP = 31  # zlib's word for its format
MOST_BYTES = 2**33  # of an array


class Leaf(NamedTuple):
    """An array of the target and where it lies."""
    name: str  # its path, joined by slashes
    shape: tuple[int, ...]
    dtype: np.dtype
    inline: np.ndarray | None  # the array, where it stands in the msgpack
    folder: Path | None  # its Zarr folder, where it doesn't


def leaves(folder: Path) -> dict[str, Leaf]:
    """The target's arrays by name; those in folders aren't opened further than their metadata.

    Raises Refusal naming what isn't as T5X writes it.
    """
    try:
        told = msgpack.unpackb((folder / "checkpoint").read_bytes(), ext_hook=extension, object_pairs_hook=unique,
                               max_array_len=1000)
        target = told["optimizer"]["target"]
        if not isinstance(target, Mapping) or not target:
            raise ValueError("no arrays")
    except Exception as error:  # msgpack raises whatever a damaged file leads it into
        raise Refusal(f"{folder / 'checkpoint'}: expected the msgpack of a T5X checkpoint, with optimizer and target, "
                      f"found one that can't be read ({type(error).__name__}): fetch it again") from error
    found = {leaf.name: leaf for leaf in walk(folder, target)}
    named = {leaf.folder for leaf in found.values()}
    if strays := sorted(path.name for path in folder.glob("target.*") if path not in named):
        raise Refusal(f"{folder}: expected folders of the arrays that its checkpoint names, found {listed(strays)} "
                      "too: these don't belong together, fetch it again")
    return found


def unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    if len(found := dict(pairs)) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def walk(folder: Path, target: Any) -> Iterator[Leaf]:
    """The leaves of the target, however deep they lie."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), target)]
    while waiting:
        path, node = waiting.pop()
        name = "/".join(path)
        if isinstance(node, np.ndarray):
            yield Leaf(name, node.shape, node.dtype, node, None)
        elif isinstance(node, Mapping) and "kvstore" in node:
            yield stored(folder / ".".join(("target", *path)), name)
        elif isinstance(node, Mapping) and all(isinstance(key, str) and re.fullmatch(r"\w+", key) for key in node):
            waiting += [((*path, key), child) for key, child in reversed(node.items())]
        else:
            raise Refusal(f"{folder / 'checkpoint'}: expected arrays under target, found {type(node).__name__} at "
                          f"{name or 'its root'}: fetch it again")


def extension(code: int, data: bytes) -> Any:
    """The array or number that an extension of Flax's msgpack holds."""
    if code not in (NDARRAY, SCALAR):
        raise ValueError(f"extension {code}")
    shape, dtype, content = msgpack.unpackb(data)
    array = np.frombuffer(content, DTYPES.get(dtype) or np.dtype(dtype)).reshape(shape)
    return array if code == NDARRAY else array[()]


def stored(folder: Path, name: str) -> Leaf:
    """A leaf in a folder, by the metadata there."""
    try:
        told = json.loads((folder / ".zarray").read_text(encoding="utf-8"))
        shape, chunks = tuple(told["shape"]), tuple(told["chunks"])
        compressor = (told["compressor"] or {"id": None})["id"]
        fits = (told["zarr_format"] == 2 and told["order"] == "C" and not told["filters"] and told["dtype"] in DTYPES
                and compressor in (None, "gzip") and told.get("dimension_separator", ".") == "."
                and len(shape) == len(chunks) and all(type(size) is int and size > 0 for size in shape + chunks)
                and math.prod(shape) * 4 <= MOST_BYTES)
    except FileNotFoundError:
        raise Refusal(f"{name}: expected the folder {folder.name} with its .zarray, found none: the checkpoint is not "
                      "whole, fetch it again") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refusal(f"{name}: expected a .zarray of Zarr 2 in {folder.name}, found one that can't be read: fetch it "
                      "again") from error
    if not fits:
        raise Refusal(f"{name}: expected Zarr 2 in C order, of float32, float16 or bfloat16, gzip or plain, in "
                      f"{folder.name}, found {json.dumps(told, sort_keys=True)[:200]}: write it as T5X does")
    return Leaf(name, shape, DTYPES[told["dtype"]], None, folder)


def load(leaf: Leaf) -> np.ndarray:
    """A leaf's array, in the dtype that is stored. Raises Refusal on a missing or damaged chunk, NaN or infinity."""
    array = leaf.inline if leaf.folder is None else from_chunks(leaf)
    if array.dtype.kind not in "fV" or not np.isfinite(array.astype(np.float32)).all():
        raise Refusal(f"{leaf.name}: expected finite numbers, found NaN or infinity: the weights are damaged, fetch "
                      "them again or train them again")
    return array


def from_chunks(leaf: Leaf) -> np.ndarray:
    """Zarr 2: a file for each chunk of the grid, all of one size; those at the edges reach beyond the array."""
    told = json.loads((leaf.folder / ".zarray").read_text(encoding="utf-8"))
    chunks, packed = tuple(told["chunks"]), bool(told["compressor"])
    size = math.prod(chunks) * leaf.dtype.itemsize
    array = np.empty(leaf.shape, leaf.dtype)
    grid = [range(math.ceil(length / chunk)) for length, chunk in zip(leaf.shape, chunks)]
    for place in product(*grid):
        path = leaf.folder / ".".join(map(str, place))
        try:
            content = path.read_bytes()
            if packed:
                unpacker = zlib.decompressobj(GZIP)
                content = unpacker.decompress(content, size + 1)
                if not unpacker.eof and len(content) <= size:
                    raise zlib.error("truncated")
        except FileNotFoundError:
            raise Refusal(f"{leaf.name}: expected the chunk {path.name} in {leaf.folder.name}, found none: the "
                          "checkpoint is not whole, fetch it again") from None
        except (OSError, zlib.error) as error:
            raise Refusal(f"{leaf.name}: expected the chunk {path.name} in {leaf.folder.name}, found a damaged one "
                          f"({error}): fetch it again") from error
        if len(content) != size:
            raise Refusal(f"{leaf.name}: expected {size} bytes in the chunk {path.name} of {leaf.folder.name}, found "
                          f"{'more' if len(content) > size else len(content)}: fetch it again")
        corner = tuple(slice(number * chunk, min((number + 1) * chunk, length))
                       for number, chunk, length in zip(place, chunks, leaf.shape))
        inside = tuple(slice(0, part.stop - part.start) for part in corner)
        array[corner] = np.frombuffer(content, leaf.dtype).reshape(chunks)[inside]
    return array
