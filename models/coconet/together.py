"""What artifacts of one variant do together, for the stage verify: sessions by component, arrays by port."""

from collections.abc import Mapping

import numpy as np
from onnxruntime import InferenceSession

from models.coconet.inputs import PITCHES

Sessions, Arrays = Mapping[str, InferenceSession], Mapping[str, np.ndarray]


def harmonizer(sessions: Sessions, feed: Arrays) -> Arrays:
    """What the harmonizer's graph does, its chain in Python (compose.py says after whom)."""
    steps, heat = int(feed["steps"]), np.maximum(feed["temperature"], np.float32(1e-30))
    current = feed["pianorolls"]
    for number, (choosing, drawing) in enumerate(feed["uniforms"][:steps + 1]):
        share = 1 if number == 0 else max(0.1, 0.9 - 0.8 * (number - 1) / steps / 0.7)
        rewritten = feed["masks"] * (choosing < np.float32(share))[:, :, None]
        [logits] = sessions["denoiser"].run(["logits"], {"pianorolls": current, "masks": rewritten})
        cumulative = np.exp((logits - logits.max(2, keepdims=True)) / heat).cumsum(2, dtype=np.float32)
        below = (cumulative <= drawing[:, :, None] * cumulative[:, :, -1:]).sum(2, keepdims=True)
        sample = np.arange(PITCHES)[:, None] == np.minimum(below, PITCHES - 1)
        current = np.where(rewritten > 0, sample, current).astype(np.float32)
    return {"harmonized": current}
