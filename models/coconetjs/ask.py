"""What Magenta's code answers with the arrays of a manifest, for reference.npz (Python 3.7, TensorFlow 2.4.1)."""

from pathlib import Path
from typing import Any, Dict

import numpy as np
import tensorflow.compat.v1 as tf

from models.coconet.answers import answers
from models.coconetjs.architecture import BLOCK
from models.coconetjs.original import network
from models.coconetjs.weights import read
from scripts.job import Refusal


def ask(source: Path, out: Path, recipe: Dict[str, Any]) -> None:
    """Write reference.npz. Raises Refusal on bad weights."""
    with tf.Graph().as_default(), tf.Session() as session:
        load(session, source)
        np.savez(str(out / "reference.npz"), **answers(session))


def load(session: tf.Session, source: Path) -> None:
    """Build Magenta's network in a session's graph, and give each of its variables its array of a manifest."""
    arrays, layers = read(source)
    variables = network({"num_dilation_blocks": (len(layers) - 3) // len(BLOCK), "num_filters": layers[0].outputs})
    if variables.keys() != arrays.keys():
        raise Refusal("{}: Magenta's network has other arrays: {}".format(
            source, ", ".join(sorted(variables.keys() ^ arrays.keys()))))
    for name, variable in variables.items():
        variable.load(arrays[name], session)
