"""The golden data's arrays, by the rule in its README."""

from collections.abc import Sequence

import numpy as np

from scripts.seeded import seeded_uniform

GAINS = {"classifier.layers.0": 2.5, "encoder.block.0": 8, "decoder.model.8": 0.1}


def golden_weight(name: str, shape: Sequence[int]) -> np.ndarray:
    """An array, float32, of a name such as coarse/transformer.norm.weight."""
    uniform, key = seeded_uniform(f"golden-public/vampnet/{name}", shape), name.split("/")[1]
    place, _, kind = key.rpartition(".")
    if kind == "alpha" or (kind == "weight" and uniform.ndim == 1):
        return 1 + np.float32(0.2) * uniform
    if kind == "weight_g":
        closes = place.endswith("layer.3") or (place.startswith("encoder.") and place.endswith("block.3"))
        return np.float32(GAINS.get(place, 0.5 if closes else 1)) * (1 + np.float32(0.2) * uniform)
    if key == "embedding.special.MASK" or key.endswith("codebook.weight"):
        return np.float32(np.sqrt(3)) * uniform
    if key.endswith("relative_attention_bias.weight"):
        return np.float32(4) * uniform
    if kind == "bias":
        return np.float32(0.1) * uniform
    doubled = 2 if key.endswith(("w_qs.weight", "w_ks.weight")) else 1
    return np.float32(doubled * np.sqrt(3 / np.prod(shape[1:]))) * uniform
