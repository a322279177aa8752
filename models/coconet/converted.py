"""Magenta's network in operators that ONNX has too, to be converted (Python 3.7, TensorFlow 2.4.1).

Where the length is open, TensorFlow has no single operator for a dilated depthwise convolution, but takes a space apart
and puts it together again by what it computes of its length; a dense layer becomes a product of reshaped tensors; and
the factors of batch norm don't pass the biases in front of them. Here each layer is convolutions and a sum. It never
runs in TensorFlow, but once it is ONNX it is held against what Graph answers.
"""

from typing import Any, Dict, List, Sequence, Tuple

import tensorflow.compat.v1 as tf

from models.coconet.original import BIAS, DEPTHWISE, POINTWISE, Graph


class Converted(Graph):
    def apply_convolution(self, x: tf.Tensor, layer: Dict[str, Any], layer_idx: int) -> tf.Tensor:
        height, width, inputs, outputs = layer["filters"]
        rates = layer.get("dilation_rate", [1, 1])
        paddings = same_paddings((height, width), rates)
        if not self.separable(layer_idx):
            if rates == [1, 1]:
                return super().apply_convolution(x, layer, layer_idx)
            weights = tf.get_variable("weights", layer["filters"])
            return self.normalized(tf.nn.conv2d(x, weights, 1, paddings, dilations=rates))
        multiplier = self.hparams.sep_conv_depth_multiplier
        weights = tf.get_variable(DEPTHWISE, [height, width, inputs, multiplier])
        x = tf.raw_ops.DepthwiseConv2dNative(
            input=x, filter=weights, strides=[1] * 4, padding="EXPLICIT",
            explicit_paddings=[side for sides in paddings for side in sides], dilations=[1, *rates, 1])
        splits = layer.get("num_pointwise_splits", 1)
        if splits == 1:
            return self.pointwise(x, tf.get_variable(POINTWISE, [1, 1, inputs * multiplier, outputs]),
                                  tf.get_variable(BIAS, [outputs]))
        if self.depthwise_biases:
            x += tf.get_variable(BIAS, [inputs * multiplier])
        kernels, biases = zip(*(self.dense("split_{}_{}".format(layer_idx, number), inputs * multiplier // splits,
                                           outputs // splits) for number in range(splits)))
        return self.pointwise(x, tf.concat(kernels, -1)[None, None], tf.concat(biases, 0))

    def dense(self, name: str, inputs: int, outputs: int) -> Tuple[tf.Tensor, tf.Tensor]:
        """The weights and biases of a dense layer."""
        with tf.variable_scope(name):
            return tf.get_variable("kernel", [inputs, outputs]), tf.get_variable("bias", [outputs])

    def pointwise(self, x: tf.Tensor, kernel: tf.Tensor, biases: tf.Tensor) -> tf.Tensor:
        """A normalized product over the channels, or over each group of them where the kernel [1, 1, inputs, outputs]
        has fewer inputs: a convolution in groups, which TensorFlow knows and, on CPUs, can't run."""
        if self.hparams.batch_norm:
            gamma, mean, variance = (tf.get_variable(name, [1, 1, 1, *biases.shape.as_list()])
                                     for name in ("gamma", "popmean", "popvariance"))
            factors = gamma * tf.math.rsqrt(variance + self.hparams.batch_norm_variance_epsilon)
            kernel *= factors
            biases = tf.get_variable("beta", biases.shape) + ((biases - mean) * factors)[0, 0, 0]
        else:
            biases += tf.get_variable("bias", biases.shape)
        return tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, "VALID"), biases)


def same_paddings(kernel: Sequence[int], rates: Sequence[int]) -> List[List[int]]:
    """What SAME means for a convolution of stride 1, as TensorFlow writes it out: of the rows, the end has more."""
    total = [(rows - 1) * rate for rows, rate in zip(kernel, rates)]
    return [[0, 0], *([rows // 2, rows - rows // 2] for rows in total), [0, 0]]
