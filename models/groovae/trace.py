"""What Magenta's GrooVAE computes inside (Python 3.7, TensorFlow 2.4.1).

Its decoder is fused operations without an inside; that of the same arithmetic in plain ones (network.py) answers for
the opening and the step. The stage verify holds the whole against Magenta's.
"""

from pathlib import Path
from typing import Any, Dict

import numpy as np
import tensorflow.compat.v1 as tf

from models.groovae import export
from models.groovae.original import build
from models.groovae.source import read, sizes
from scripts import session
from scripts.trace import Question

PLAIN = {"opening": export.opening, "step": export.step}


def trace(source: Path, recipe: Dict[str, Any], question: Question) -> Dict[str, np.ndarray]:
    """The encoder's tensors by the names that export.encoder gives them, those of the others by TensorFlow's."""
    arrays = read(source)
    with tf.Graph().as_default() as graph, tf.Session() as magenta:
        if question.component in PLAIN:
            PLAIN[question.component](arrays)
            return session.ask(magenta, question)
        build(sizes(arrays), len(question.feed["taps"]))
        for variable in tf.global_variables():
            variable.load(arrays[variable.op.name], magenta)
        found = {"heard": graph.get_operation_by_name("encoder/mu/MatMul").inputs[0]}
        for port in ("mu", "sigma"):
            found[port + "/product"] = graph.get_tensor_by_name("encoder/{}/MatMul:0".format(port))
            found[port] = graph.get_tensor_by_name(port + ":0")
        found["sigma/sum"] = graph.get_tensor_by_name("encoder/sigma/BiasAdd:0")
        return magenta.run(found, {"taps:0": question.feed["taps"]})
