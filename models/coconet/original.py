"""Magenta's own Coconet code, unmodified (Python 3.7, TensorFlow 2.4.1, magenta 2.1.4).

magenta/__init__.py imports every pipeline of the package, and through them librosa,
pandas, bokeh and numba; none of it is needed here. The package is therefore entered
without running its __init__.
"""

import importlib.util
import sys

import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()
tf.logging.set_verbosity(tf.logging.ERROR)
sys.modules.setdefault("magenta", importlib.util.module_from_spec(importlib.util.find_spec("magenta")))

from magenta.models.coconet import lib_graph, lib_hparams, lib_tfsampling  # noqa: E402  (only after the line above)

__all__ = ["build", "lib_graph", "lib_hparams", "lib_tfsampling"]


def build(hparams, build_graph=lib_graph.build_graph):
    """Build the network in the current graph, between nodes named as the recipe's ports.

    Returns Magenta's CoconetGraph, as build_graph makes it. Its loss is built too and left out by freezing.
    """
    shape = [None, None, hparams.num_pitches, hparams.num_instruments]
    model = build_graph(
        is_training=False,
        hparams=hparams,
        placeholders={
            "pianorolls": tf.placeholder(tf.float32, shape, "pianorolls"),
            "masks": tf.placeholder(tf.float32, shape, "masks"),
            "lengths": tf.placeholder(tf.float32, [None], "lengths"),
        },
    )
    tf.identity(model.logits, "logits")
    tf.identity(model.predictions, "probabilities")
    return model
