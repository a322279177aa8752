"""What Magenta's Coconet computes inside (Python 3.7, TensorFlow 2.4.1)."""

from pathlib import Path
from typing import Any, Dict

import numpy as np
import tensorflow.compat.v1 as tf

from models.coconet import hyperparameters
from models.coconet.original import build
from models.coconet.weights import load_strictly
from scripts import session
from scripts.trace import Question


def trace(source: Path, recipe: Dict[str, Any], question: Question) -> Dict[str, np.ndarray]:
    """The tensors of Magenta's own graph that the export has by the same names."""
    with tf.Graph().as_default(), tf.Session() as magenta:
        build(hyperparameters.read(source))
        load_strictly(magenta, source)
        return session.ask(magenta, question)
