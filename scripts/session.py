"""Asks a TensorFlow 1 session for the tensors that an ONNX graph has by the same names (Python 3.7)."""

from typing import Dict

import numpy as np
import tensorflow.compat.v1 as tf

from scripts.trace import Question


def ask(session: tf.Session, question: Question) -> Dict[str, np.ndarray]:
    """The tensors of the question that the session's graph has; tf2onnx keeps their names, :0 and all.

    Ports are named for graph nodes, as scripts.freeze has it.
    """
    found = {}
    for name in question.tensors:
        try:
            found[name] = session.graph.get_tensor_by_name(name if ":" in name else name + ":0")
        except (KeyError, ValueError):  # the converter's own
            continue
    return session.run(found, {name + ":0": array for name, array in question.feed.items()})
