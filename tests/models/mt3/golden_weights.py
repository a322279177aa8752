"""The golden data's arrays, by the rule in its README (of every toolchain)."""

from collections.abc import Mapping, Sequence

import numpy as np

from models.mt3.weights import expected
from scripts.seeded import seeded_uniform


def golden_weight(name: str, shape: Sequence[int]) -> np.ndarray:
    """An array, float32."""
    uniform = seeded_uniform("golden-public/mt3/" + name, shape)
    if name.endswith("scale"):
        return 1 + np.float32(0.2) * uniform
    return uniform * (np.float32(0.05) if name.endswith("embedding") else np.float32(np.sqrt(3 / shape[0])))


def golden_arrays(sizes: Mapping[str, int], embedding: float = 1, end: float = 1) -> dict[str, np.ndarray]:
    """All of them; embedding, end: what the data multiplies the embeddings and the end's column by."""
    arrays = {name: golden_weight(name, shape) for name, shape in expected(sizes).items()}
    arrays["decoder/token_embedder/embedding"] *= np.float32(embedding)
    arrays["decoder/logits_dense/kernel"][:, 1] *= np.float32(end)
    return arrays
