"""The stream behind the stand-in weights and every other number a build makes up.

An array is a function of its name and shape alone. Only NumPy's raw Philox4x64
stream is used: it is equal on NumPy 1.19 and 2.x, the float draws are not.
"""

import hashlib
from typing import Sequence

import numpy as np


def seeded_uniform(name: str, shape: Sequence[int]) -> np.ndarray:
    """Return float32 in [-1, 1) of the given shape, all multiples of 2**-23.

    The stream is keyed by the first 16 bytes of sha256(name), little-endian; each
    64-bit word gives two 32-bit draws, low half first; a draw's top 24 bits count.
    """
    key = int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:16], "little")
    count = int(np.prod(shape, dtype=np.int64))
    words = np.random.Philox(key=key).random_raw((count + 1) // 2)
    draws = words.astype("<u8").view("<u4")[:count]
    unit = (draws >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-23)
    return (unit - np.float32(1)).reshape(shape)


def seeded_unit(name: str, shape: Sequence[int]) -> np.ndarray:
    """Return float32 in [0, 1) of the given shape: the same stream, halved and shifted."""
    return (seeded_uniform(name, shape) + np.float32(1)) * np.float32(0.5)
