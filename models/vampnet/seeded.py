"""VampNet's source layout: coarse.pth, c2f.pth and codec.pth, as audiotools' BaseModel.save writes them.

As in the authors' files, the transformers' adapters (LoRA) are beside the weights that they change, and convolutions
are weight norms. Sizes are the kwargs of upstream's classes; those that decide no array are written as upstream has
them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.vampnet.weights import built, expected
from scripts.job import progress
from scripts.seeded import seeded_uniform

INERT = {"r_cond_dim": 0, "flash_attn": False, "noise_mode": "mask", "dropout": 0.1, "ctrl_dims": None,
         "cfg_dropout_prob": 0.2, "cond_dim": 0}
GAINS = {"classifier.layers.0": 2.5, "encoder.block.0": 8, "decoder.model.0": 0.3, "decoder.model.8": 0.1}


def weight(name: str, shape: Sequence[int]) -> np.ndarray:
    """The stand-in value, float32, of the array with the given name, such as coarse/transformer.norm.weight."""
    return value(name, seeded_uniform(f"vampnet/{name}", shape))


def value(name: str, uniform: np.ndarray) -> np.ndarray:
    """An array made of uniform float32 numbers from -1 to 1.

    Scaled by fan-in, with residual branches that keep the sound's level, and positions that keep attention from
    averaging everything away.
    """
    key = name.split("/")[1]
    place, _, kind = key.rpartition(".")
    if kind == "weight_g":
        return np.float32(gain(place)) * (1 + np.float32(0.2) * uniform)
    if kind == "alpha" or (kind == "weight" and uniform.ndim == 1):
        return 1 + np.float32(0.2) * uniform
    if place.endswith("codebook") or kind == "MASK":
        return np.float32(np.sqrt(3)) * uniform
    if place.endswith("relative_attention_bias"):
        return np.float32(4) * uniform
    if kind == "bias":
        return np.float32(0.1) * uniform
    return np.float32(np.sqrt(3 / np.prod(uniform.shape[1:]))) * uniform


def gain(place: str) -> float:
    """The gain of a weight norm: of layers at the ends, and of those that close the decoder's residual branches."""
    return 0.25 if place.endswith("layer.3") else GAINS.get(place, 1)


def write(folder: Path, sizes: dict[str, dict[str, Any]],
          value: Callable[[str, Sequence[int]], np.ndarray] = weight, adapted: bool = True) -> None:
    """Write the files of the parts whose sizes are given by upstream's names.

    value(name, shape) gives each array, float32. adapted: whether the transformers have adapters.
    """
    for part, own in sizes.items():
        progress(f"writing {part}.pth")
        shapes = expected(built(part, own), adapted and part != "codec")
        state = {name: torch.from_numpy(value(f"{part}/{name}", shape)) for name, shape in shapes.items()}
        kwargs = {**own, "quantizer_dropout": False} if part == "codec" else {**own, **INERT}
        torch.save({"state_dict": state, "metadata": {"kwargs": kwargs}}, folder / f"{part}.pth")
