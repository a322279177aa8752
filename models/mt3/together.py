"""What artifacts of one variant do together, for the stage verify: sessions by component, arrays by port."""

from collections.abc import Mapping

import numpy as np
from onnxruntime import InferenceSession

from models.mt3 import decode
from models.mt3.player import stepping

Sessions, Arrays = Mapping[str, InferenceSession], Mapping[str, np.ndarray]


def taught(sessions: Sessions, feed: Arrays) -> Arrays:
    """The logits [batch, time, vocabulary] after each of the tokens [batch, time], of what the encoder heard of mel."""
    step = stepping(sessions["encoder"], sessions["decoder"], feed["mel"])
    return {"logits": np.stack([step(tokens) for tokens in feed["tokens"].T], axis=1)}


def transcriber(sessions: Sessions, feed: Arrays) -> Arrays:
    """What the transcriber's graph does, its loop in Python."""
    step = stepping(sessions["encoder"], sessions["decoder"], feed["mel"])
    return {"tokens": decode.greedy(step, len(feed["mel"]), int(feed["length"]))}
