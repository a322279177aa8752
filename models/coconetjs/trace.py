"""What Magenta's code computes inside, layer by layer (Python 3.7, TensorFlow 2.4.1)."""

from pathlib import Path
from typing import Any, Dict

import numpy as np
import tensorflow.compat.v1 as tf

from models.coconetjs.ask import load
from scripts.trace import Question

PRODUCT, NORMALIZED = "/pointwise", "/batchnorm/add_1:0"  # a node of ours reads the one and returns the other


def trace(source: Path, recipe: Dict[str, Any], question: Question) -> Dict[str, np.ndarray]:
    """Each layer's result, batch-normalized, as the node that reads its product returns it."""
    names = {tensor: weight[:-len(PRODUCT)] + NORMALIZED for tensor, weights in question.tensors.items()
             for weight in weights if weight.endswith(PRODUCT)}
    with tf.Graph().as_default(), tf.Session() as magenta:
        load(magenta, source)
        return magenta.run(names, {name + ":0": array for name, array in question.feed.items()})
