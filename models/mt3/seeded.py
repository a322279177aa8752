"""MT3's source layout, that of the released checkpoints of 2021: kernels in folders, norm scales inside.

T5X reads the tree {"version", "optimizer": {"target", "state": {"step", "param_states"}}}. The optimizer's slots
(param_states), which only training needs, are left out. Gzip's data is stored, not compressed: its bytes are
those of every version of every compressor, and random weights don't compress.
"""

import json
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from models.mt3.weights import Sizes, expected
from scripts.seeded import seeded_uniform

STEP = 1000
STATISTICS = json.loads(Path(__file__).with_name("statistics.json").read_text(encoding="utf-8"))
NDARRAY, SCALAR = 1, 3  # Flax's msgpack extensions
MOST_STORED = 65535  # bytes of a stored block (RFC 1951, 3.2.4)


def weight(name: str, shape: Sequence[int]) -> np.ndarray:
    """The stand-in value, float32, of the array with the given name: uniform, of the mean and the deviation that the
    authors' array has.

    Half of the heads that attend to the sound take away some of what the other half adds, so that where they look
    counts: what random heads hear is much the same everywhere, and would drown the tokens.
    """
    mean, deviation = statistics(name, shape)
    array = np.float32(mean) + np.float32(deviation * np.sqrt(3)) * seeded_uniform("mt3/" + name, shape)
    half = np.array(shape) // 2
    if name.endswith("encoder_decoder_attention/value/kernel"):
        array[:, half[1]:] = array[:, :half[1]]
    elif name.endswith("encoder_decoder_attention/out/kernel"):
        array[half[0]:] = np.float32(np.sqrt(0.75)) * array[half[0]:] - np.float32(0.5) * array[:half[0]]
    return array


def statistics(name: str, shape: Sequence[int]) -> tuple[float, float]:
    """The mean and the standard deviation of an array: those of the authors' of its name, in one of their layers."""
    sizes, arrays = STATISTICS["sizes"], STATISTICS["arrays"]
    known = re.sub(r"(?<=/layers_)\d+", lambda number: str(int(number[0]) % sizes["num_encoder_layers"]), name)
    mean, deviation = arrays[known]
    if name.endswith("/kernel"):
        deviation *= np.sqrt(expected(sizes)[known][0] / shape[0])
    return mean, deviation


def write(folder: Path, sizes: Sizes, value: Callable[[str, Sequence[int]], np.ndarray] = weight) -> None:
    """Write a checkpoint in the upstream's layout: sizes by upstream's names.

    value(name, shape) gives each of the network's arrays, float32.
    """
    tree: dict[str, Any] = {}
    for name, shape in sorted(expected(sizes).items()):
        array = value(name, shape).astype("<f4", copy=False)
        *names, last = name.split("/")
        branch = tree
        for part in names:
            branch = branch.setdefault(part, {})
        branch[last] = packed(NDARRAY, array) if array.ndim == 1 else spec(name, shape)
        if array.ndim > 1:
            write_zarr(folder / place(name), array)
    state = {"step": packed(SCALAR, np.array(STEP, "<i4")), "param_states": {}}
    (folder / "checkpoint").write_bytes(msgpack.packb({"version": 3, "optimizer": {"target": tree, "state": state}}))


def place(name: str) -> str:
    """The folder of an array."""
    return "target." + name.replace("/", ".")


def packed(extension: int, array: np.ndarray) -> msgpack.ExtType:
    """An array as Flax packs it (flax/serialization.py)."""
    return msgpack.ExtType(extension, msgpack.packb((array.shape, array.dtype.name, array.tobytes())))


def metadata(shape: Sequence[int]) -> dict[str, Any]:
    return {"chunks": list(shape), "compressor": {"id": "gzip", "level": 1}, "shape": list(shape)}


def spec(name: str, shape: Sequence[int]) -> dict[str, Any]:
    """What stands in the tree for an array in a folder: how TensorStore opens it."""
    return {"driver": "zarr", "dtype": "float32", "kvstore": {"driver": "gfile", "path": place(name) + "/"},
            "metadata": metadata(shape)}


def write_zarr(folder: Path, array: np.ndarray) -> None:
    """Write an array as a Zarr array of one chunk."""
    folder.mkdir()
    told = {**metadata(array.shape), "dimension_separator": ".", "dtype": "<f4", "fill_value": None, "filters": None,
            "order": "C", "zarr_format": 2}
    (folder / ".zarray").write_text(json.dumps(told, sort_keys=True, separators=(",", ":")), encoding="utf-8")
    (folder / ".".join("0" * array.ndim)).write_bytes(gzipped(array.tobytes()))


def gzipped(data: bytes) -> bytes:
    """Gzip's format (RFC 1952) around stored blocks, without a time."""
    starts = range(0, len(data), MOST_STORED)
    blocks = [data[start:start + MOST_STORED] for start in starts]
    headers = [struct.pack("<BHH", block is blocks[-1], len(block), len(block) ^ 0xFFFF) for block in blocks]
    return b"".join([b"\x1f\x8b\x08" + bytes(6) + b"\xff",
                     *(part for pair in zip(headers, blocks, strict=True) for part in pair),
                     struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)])
