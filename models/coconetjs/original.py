"""Magenta's own Coconet code with the layers of the edition for browsers (Python 3.7, TensorFlow 2.4.1)."""

from typing import Any, Dict, Type

import tensorflow.compat.v1 as tf

from models.coconet import original

HYPERPARAMETERS: Dict[str, Any] = {
    "architecture": "dilated", "crop_piece_len": 32, "use_sep_conv": True, "num_initial_regular_conv_layers": 0,
    "num_pointwise_splits": 4, "interleave_split_every_n_layers": 16, "batch_norm": True, "use_residual": True,
    "mask_indicates_context": True, "maskout_method": "orderless", "dataset": "Jsb16thSeparated",
}


class Graph(original.Graph):
    depthwise_biases = False  # which magenta-js doesn't read


class Normalizing(Graph, original.Normalizing):
    """The same as training runs it."""


def network(hyperparameters: Dict[str, Any], graph: Type[original.Graph] = Graph) -> Dict[str, tf.Variable]:
    """Build the network in the current graph, between nodes named as the recipe's ports.

    hyperparameters: by Magenta's names, besides those above. Returns the variables by their names in a manifest.
    """
    original.build(original.lib_hparams.Hyperparameters(**dict(HYPERPARAMETERS, **hyperparameters)), graph)
    return {original.contrib_name(variable.op.name): variable for variable in tf.global_variables()}
