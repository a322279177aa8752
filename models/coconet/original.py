"""Magenta's own Coconet code, unmodified (Python 3.7, TensorFlow 2.4.1, magenta 2.1.4), and what it can't build.

magenta/__init__.py imports every pipeline of the package, and through them librosa,
pandas, bokeh and numba; none of it is needed here. The package is therefore entered
without running its __init__.
"""

import importlib.util
import sys
from typing import Any, Dict, Type

import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()
tf.logging.set_verbosity(tf.logging.ERROR)
sys.modules.setdefault("magenta", importlib.util.module_from_spec(importlib.util.find_spec("magenta")))

from magenta.models.coconet import lib_graph, lib_hparams, lib_tfsampling  # noqa: E402  (only after the line above)

__all__ = ["Graph", "Normalizing", "build", "contrib_name", "lib_graph", "lib_hparams", "lib_tfsampling"]

DEPTHWISE, POINTWISE, BIAS = ("separable_conv2d/" + name for name in ("depthwise_kernel", "pointwise_kernel", "bias"))
# As contrib.layers of TensorFlow 1 called them, which Magenta used until May 2020; tf.layers is what it uses since.
CONTRIB = {DEPTHWISE: "SeparableConv2d/depthwise_weights", POINTWISE: "SeparableConv2d/pointwise_weights",
           BIAS: "SeparableConv2d/biases"}


class Graph(lib_graph.CoconetGraph):
    """Magenta's network, those that its own code fails on too.

    Without residuals it counts up what it never set. And for a layer of several pointwise products it asks tf.layers
    for a separable convolution without filters, which contrib.layers took for a depthwise one (tf_slim has that code
    still, layers.separable_convolution2d). The variables are named as tf.layers would.
    """

    residual_counter = -1
    depthwise_biases = True  # contrib.layers gave a depthwise convolution biases, too

    def separable(self, layer_idx: int) -> bool:
        return self.hparams.use_sep_conv and layer_idx >= self.hparams.num_initial_regular_conv_layers

    def apply_convolution(self, x: tf.Tensor, layer: Dict[str, Any], layer_idx: int) -> tf.Tensor:
        splits = layer.get("num_pointwise_splits", 1)
        if splits == 1 or not self.separable(layer_idx):
            return super().apply_convolution(x, layer, layer_idx)
        height, width, inputs, outputs = layer["filters"]
        multiplier = self.hparams.sep_conv_depth_multiplier
        weights = tf.get_variable(DEPTHWISE, [height, width, inputs, multiplier])
        conv = tf.nn.depthwise_conv2d(x, weights, [1, 1, 1, 1], "SAME", rate=layer["dilation_rate"])
        if self.depthwise_biases:
            conv += tf.get_variable(BIAS, [inputs * multiplier])
        parts = [tf.layers.dense(part, outputs // splits, name="split_{}_{}".format(layer_idx, number))
                 for number, part in enumerate(tf.split(conv, splits, -1))]
        return self.normalized(tf.concat(parts, -1))

    def normalized(self, x: tf.Tensor) -> tf.Tensor:
        """What Magenta's own apply_convolution ends with."""
        if self.hparams.batch_norm:
            return self.apply_batchnorm(x)
        return tf.nn.bias_add(x, tf.get_variable("bias", [x.shape[-1]]))


class Normalizing(Graph):
    """The network as training runs it: each layer is normalized by what a batch itself has, whatever its scale.

    Takes popmean 0 and popvariance 1. What the batch has stands in the nodes batchmean and batchvariance of a layer.
    """

    def apply_batchnorm(self, x: tf.Tensor) -> tf.Tensor:
        mean, variance = (tf.identity(self.stored("pop" + kind, moment), "batch" + kind)
                          for kind, moment in zip(("mean", "variance"), tf.nn.moments(x, [0, 1, 2], keepdims=True)))
        return super().apply_batchnorm((x - mean) * tf.math.rsqrt(variance + self.hparams.batch_norm_variance_epsilon))

    def stored(self, kind: str, moment: tf.Tensor) -> tf.Tensor:
        """What a file can hold of a batch's mean or variance."""
        return moment


def build(hparams: Any, network: Type[lib_graph.CoconetGraph] = Graph) -> lib_graph.CoconetGraph:
    """Build the network in the current graph, between nodes named as the recipe's ports.

    Its loss is built too and left out by freezing.
    """
    shape = [None, None, hparams.num_pitches, hparams.num_instruments]
    placeholders = {
        "pianorolls": tf.placeholder(tf.float32, shape, "pianorolls"),
        "masks": tf.placeholder(tf.float32, shape, "masks"),
        "lengths": tf.placeholder(tf.float32, [None], "lengths"),
    }
    initializer = tf.random_uniform_initializer(-hparams.init_scale, hparams.init_scale)
    with tf.variable_scope("model", initializer=initializer):  # as lib_graph.build_graph
        model = network(is_training=False, hparams=hparams, placeholders=placeholders)
    tf.identity(model.logits, "logits")
    tf.identity(model.predictions, "probabilities")
    return model


def contrib_name(variable: str) -> str:
    """The name that a variable of the graph has in checkpoints of TensorFlow 1, and in the edition for browsers."""
    scope, _, name = variable.partition("/conv")
    number, _, name = name.partition("/")
    return "{}/conv{}/{}".format(scope, number, CONTRIB.get(name, name))
