"""Magenta's own Coconet code with the layers of the edition for browsers (Python 3.7, TensorFlow 2.4.1)."""

from typing import Any, Dict

import tensorflow.compat.v1 as tf

from models.coconet.original import build, lib_graph, lib_hparams

HYPERPARAMETERS: Dict[str, Any] = {
    "architecture": "dilated", "crop_piece_len": 32, "use_sep_conv": True, "num_initial_regular_conv_layers": 0,
    "num_pointwise_splits": 4, "interleave_split_every_n_layers": 16, "batch_norm": True, "use_residual": True,
    "mask_indicates_context": True, "maskout_method": "orderless", "dataset": "Jsb16thSeparated",
}
# As TensorFlow 1's contrib.layers called them, which the published weights were trained with, and as tf.layers does.
NAMES = {"separable_conv2d/depthwise_kernel": "SeparableConv2d/depthwise_weights",
         "separable_conv2d/pointwise_kernel": "SeparableConv2d/pointwise_weights",
         "separable_conv2d/bias": "SeparableConv2d/biases"}


class Graph(lib_graph.CoconetGraph):
    """Magenta's network, whose own code fails on a layer with several pointwise products.

    It asks tf.layers for a separable convolution without filters, which contrib.layers took for a depthwise one.
    """

    def apply_convolution(self, x, layer, layer_idx):
        splits = layer.get("num_pointwise_splits", 1)
        if splits == 1:
            return super().apply_convolution(x, layer, layer_idx)
        height, width, inputs, outputs = layer["filters"]
        weights = tf.get_variable("SeparableConv2d/depthwise_weights", [height, width, inputs, 1])
        conv = tf.nn.depthwise_conv2d(x, weights, [1, 1, 1, 1], "SAME", rate=layer["dilation_rate"])
        parts = [tf.layers.dense(part, outputs // splits, name="split_{}_{}".format(layer_idx, number))
                 for number, part in enumerate(tf.split(conv, splits, -1))]
        return self.apply_batchnorm(tf.concat(parts, -1))


def network(hyperparameters: Dict[str, Any]) -> Dict[str, tf.Variable]:
    """Build the network in the current graph, between nodes named as the recipe's ports.

    hyperparameters: by Magenta's names, besides those above. Returns the variables by their names in a manifest.
    """
    def build_graph(is_training, hparams, placeholders):
        with tf.variable_scope("model"):
            return Graph(is_training, hparams, placeholders)

    build(lib_hparams.Hyperparameters(**dict(HYPERPARAMETERS, **hyperparameters)), build_graph)
    return {name_of(variable.op.name): variable for variable in tf.global_variables()}


def name_of(variable: str) -> str:
    scope, _, name = variable.partition("/conv")
    number, _, name = name.partition("/")
    return "{}/conv{}/{}".format(scope, number, NAMES.get(name, name))
