"""Weights of TensorFlow.js as data: a manifest in JSON, and shards of bytes beside it (Python 3.7 and later).

A manifest is a list of groups, each with the paths of its shards and, in their order there, its weights: name, shape,
dtype, and how they are quantized, if they are (tfjs-core, src/io/types.ts). Both come from strangers: nothing is read
before its size is known, and nothing outside the manifest's folder. NumPy is needed for `arrays` alone.
"""

import json
import math
import re
import struct
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from scripts.job import Refusal
from scripts.unpack import outside

MANIFEST = "weights_manifest.json"
WIDTHS = {"float32": 4, "int32": 4, "complex64": 8, "float16": 2, "uint16": 2, "uint8": 1, "bool": 1}  # in bytes
STRING = "string"  # whose bytes, with their number in front of each, no manifest counts
LENGTH = struct.Struct("<I")
QUANTIZED = {"uint8": ("float32", "int32"), "uint16": ("float32", "int32"), "float16": ("float32",)}  # of which dtypes
MOST_AXES = 32  # of a NumPy array
MOST_NUMBERS = 2**40  # of an array, however many of its axes are empty
WHOLE = re.compile(r"-?\d{1,19}")


class Weight(NamedTuple):
    name: str
    shape: Tuple[int, ...]
    dtype: str  # of its values
    stored: str  # as which they lie in the shards
    scale: float  # values are stored * scale + least, where they are quantized to integers
    least: float

    @property
    def count(self) -> int:
        count = 1
        for length in self.shape:
            count *= length
        return count

    @property
    def bytes(self) -> Optional[int]:
        """That it takes in the shards; None of strings."""
        return None if self.stored == STRING else self.count * WIDTHS[self.stored]


class Group(NamedTuple):
    paths: Tuple[str, ...]  # of its shards, from the manifest's folder
    weights: List[Weight]

    @property
    def bytes(self) -> Optional[int]:
        """Of all its shards together; None where strings are among its weights."""
        sizes = [weight.bytes for weight in self.weights]
        return None if None in sizes else sum(sizes)


def parsed(content: bytes) -> Any:
    """What a JSON text says. Raises ValueError where it is none, or nested without end."""
    try:
        return json.loads(content.decode(), parse_int=whole)
    except RecursionError:
        raise ValueError("nested too deep") from None


def whole(digits: str) -> int:
    if not WHOLE.fullmatch(digits):
        raise ValueError("no number is {}…".format(digits[:20]))
    return int(digits)


def groups(place: object, told: Any) -> List[Group]:
    """The groups that a manifest tells: a JSON text, or what one says.

    Raises Refusal where it can't be read, or names shards outside of its folder, weights twice, or dtypes that
    TensorFlow.js doesn't have.
    """
    try:
        found = [Group(tuple(group["paths"]), list(map(weight, group["weights"])))
                 for group in (parsed(told) if isinstance(told, bytes) else told)]
        paths = [path for group in found for path in group.paths]
        names = [one.name for group in found for one in group.weights]
        for kind, given in (("shards", paths), ("weights", names)):
            if len(set(given)) != len(given):
                raise ValueError("{} of the same name".format(kind))
        strange = next((path for path in paths if not path or outside(path)), None)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Refusal("{}: expected TensorFlow.js' manifest of weights, found one that can't be read ({}): fetch it "
                      "again".format(place, " ".join(str(error).split())[:200])) from error
    if strange is not None:
        raise Refusal("{}: expected shards in its own folder, found {!r}: it is made to read other files, don't use "
                      "it".format(place, strange))
    return found


def weight(told: Dict[str, Any]) -> Weight:
    """One weight of a manifest. Raises ValueError, LookupError or TypeError on what is none."""
    name, shape, dtype = told["name"], told["shape"], told["dtype"]
    if not isinstance(name, str) or dtype not in (*WIDTHS, STRING):
        raise ValueError("{!r} is of the dtype {!r}, known are {}".format(name, dtype, ", ".join([*WIDTHS, STRING])))
    numbers = 1
    for length in shape:
        if type(length) is not int or length < 0:
            raise ValueError("{} is of the shape {}".format(name, shape))
        numbers *= max(length, 1)
        if numbers > MOST_NUMBERS or len(shape) > MOST_AXES:
            raise ValueError("{} is too large".format(name))
    quantization = told.get("quantization")
    if not quantization:
        return Weight(name, tuple(shape), dtype, dtype, 1.0, 0.0)
    stored = quantization["dtype"]
    if dtype not in QUANTIZED[stored]:
        raise ValueError("{} is {} stored as {}".format(name, dtype, stored))
    scale, least = ((1.0, 0.0) if stored == "float16" else
                    (float(quantization["scale"]), float(quantization["min"])))
    if not math.isfinite(scale) or not math.isfinite(least):
        raise ValueError("{} is scaled by {}, from {}".format(name, scale, least))
    return Weight(name, tuple(shape), dtype, stored, scale, least)


def shards(place: Path, told: Group) -> List[Path]:
    """A group's shards beside the manifest at a place. Raises Refusal where one isn't there, or they aren't whole."""
    paths = [place.parent / name for name in told.paths]
    for path in paths:
        if place.parent.resolve() not in path.resolve().parents:
            raise Refusal("{}: expected shards in its own folder, found a link, {}: it is made to read other files, "
                          "don't use it".format(place, path))
        if not path.is_file():
            raise Refusal("{}: expected a shard of weights, found none: fetch it again".format(path))
    found = sum(path.stat().st_size for path in paths)
    if told.bytes not in (None, found):
        raise Refusal("{}: expected {:,} bytes of weights in {}, found {:,}: the model is not whole, fetch it "
                      "again".format(place, told.bytes, ", ".join(told.paths)[:200], found))
    return paths


def arrays(place: Path, told: List[Group]) -> Dict[str, Any]:
    """The values of all weights of a manifest, by name: NumPy arrays of their dtypes, those of strings of objects.

    place: of the manifest. Quantized ones are widened as tensorflowjs/quantization.py does it: in float64, then
    rounded to their dtype. Raises Refusal on shards that aren't whole.
    """
    import numpy as np  # which not everyone who asks for sizes has

    found = {}
    for group in told:
        content, start = b"".join(path.read_bytes() for path in shards(place, group)), 0
        for one in group.weights:
            if one.stored == STRING:
                texts, start = strings(place, one, content, start)
                found[one.name] = np.array(texts, object).reshape(one.shape)
                continue
            stored = np.ndarray(one.shape, np.dtype(one.stored).newbyteorder("<"), content, start)
            start += stored.nbytes
            if one.stored != one.dtype and one.stored != "float16":
                wide = stored * np.float64(one.scale) + np.float64(one.least)
                stored = np.round(wide) if one.dtype == "int32" else wide
            found[one.name] = stored.astype(one.dtype)
        if start != len(content):
            raise Refusal("{}: expected {:,} bytes of weights in {}, found {:,}: the model is not whole, fetch it "
                          "again".format(place, start, ", ".join(group.paths)[:200], len(content)))
    return found


def strings(place: Path, told: Weight, content: bytes, start: int) -> Tuple[List[bytes], int]:
    """The texts of a weight that begins at a byte of its group, and where it ends."""
    texts = []
    if told.count * LENGTH.size <= len(content) - start:
        while len(texts) < told.count and start + LENGTH.size <= len(content):
            [length] = LENGTH.unpack_from(content, start)
            texts.append(content[start + LENGTH.size:start + LENGTH.size + length])
            start += LENGTH.size + length
    if len(texts) < told.count or start > len(content):
        raise Refusal("{}: expected {:,} texts in {}, found fewer: the model is not whole, fetch it again".format(
            place, told.count, told.name))
    return texts, start
