"""The layout of Coconet's edition for browsers: TensorFlow.js' manifest and shards (Python 3.7, TensorFlow 2.4.1).

magenta-js reads raw variables (music/src/coconet/model.ts); tensorflowjs' own writer writes them.
"""

from pathlib import Path
from typing import Any, Dict, Sequence

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflowjs.write_weights import write_weights

from models.coconetjs.original import network
from scripts.seeded import seeded_uniform


def write(folder: Path, hyperparameters: Dict[str, Any]) -> None:
    """Write stand-in weights of Magenta's hyperparameters in the upstream's layout."""
    with tf.Graph().as_default():
        shapes = {name: variable.shape.as_list() for name, variable in network(hyperparameters).items()}
    last = "model/conv{}/".format(hyperparameters["num_layers"] - 1)
    write_weights([[{"name": name, "data": weight(name, shape, name.startswith(last))}
                    for name, shape in shapes.items()]], str(folder))


def weight(name: str, shape: Sequence[int], is_logits: bool) -> np.ndarray:
    """The stand-in value, float32, of an array: scaled by fan-in, with gains that keep activations steady.

    In the first layer the notes, one pitch in 46, count eight times as much as what tells which are known, so that
    another note gives other answers.
    """
    uniform = seeded_uniform("coconetjs/" + name, shape)
    kind = name.rsplit("/", 1)[-1]
    if kind == "depthwise_weights":
        gains = np.where((np.arange(shape[2]) < shape[2] // 2) & name.startswith("model/conv0/"), 8, 1)
        return uniform * (np.sqrt(3 / (shape[0] * shape[1])) * gains[:, None]).astype(np.float32)
    if kind in ("pointwise_weights", "kernel"):
        return uniform * np.float32(np.sqrt(3 / shape[-2]))
    if kind == "gamma":
        return (1 + np.float32(0.2) * uniform) * np.float32(8 if is_logits else 0.7)
    if kind == "popvariance":
        return 1 + np.float32(0.2) * uniform
    assert kind in ("biases", "bias", "beta", "popmean"), kind
    return np.float32(0.1) * uniform
