"""What the network computes inside (Python 3.7, TensorFlow 2.4.1)."""

from pathlib import Path
from typing import Any, Dict

import numpy as np
import tensorflow as tf

from models.harmonizer import weights
from models.harmonizer.export import graph
from scripts import session
from scripts.trace import Question


def trace(source: Path, recipe: Dict[str, Any], question: Question) -> Dict[str, np.ndarray]:
    """The tensors of Keras' graph that the export has by the same names."""
    model = weights.read(source / weights.FILE)
    with graph(model, recipe).as_default(), tf.compat.v1.Session() as keras:
        return session.ask(keras, question)
