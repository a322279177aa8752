"""GrooVAE in plain operations on Magenta's own variables: what converters can take apart (Python 3.7).

Magenta runs its LSTMs as one fused operation inside loops of TensorFlow's (LSTMBlockCell in
dynamic_rnn and dynamic_decode), which converters translate slowly or not at all. The same
arithmetic is written out here; Magenta's own graph judges it (reference.npz). A weight is
known by its TensorFlow name. An LSTM's gates lie in the order i, j, f, o in them, and here
in the order i, f, o, j, so that one sigmoid serves three.
"""

from typing import Dict, List, NamedTuple, Tuple

import numpy as np
import tensorflow.compat.v1 as tf

from models.groovae.inputs import DEPTH

FORGET_BIAS = 1.0
DIRECTIONS = ("fw", "bw")

Weights = Dict[str, np.ndarray]
State = Tuple[tf.Tensor, tf.Tensor]  # c, h: [batch, units]


class Layer(NamedTuple):
    """The weights of an LSTM, gates along the last axis."""

    seen: np.ndarray  # [inputs, 4 * units], what multiplies the input
    held: np.ndarray  # [units, 4 * units], what multiplies the last output
    bias: np.ndarray  # [4 * units]


def layer(weights: Weights, scope: str) -> Layer:
    """An LSTM's weights from Magenta's kernel [inputs + units, 4 * units] and bias, the forget bias added to it."""
    kernel, bias = weights[scope + "/lstm_cell/kernel"], weights[scope + "/lstm_cell/bias"]
    units = kernel.shape[1] // 4
    i, j, f, o = np.split(np.arange(4 * units), 4)
    order = np.concatenate([i, f, o, j])
    bias = bias.copy()
    bias[f] += np.float32(FORGET_BIAS)
    return Layer(kernel[:-units, order], kernel[-units:, order], bias[order])


def encoder_layer(weights: Weights, direction: str) -> Layer:
    return layer(weights, "encoder/cell_0/bidirectional_rnn/{}/multi_rnn_cell/cell_0".format(direction))


def decoder_layers(weights: Weights) -> List[Layer]:
    """From the bottom up."""
    return [layer(weights, "decoder/multi_rnn_cell/cell_{}".format(number)) for number in range(2)]


def cell(gates: tf.Tensor, c: tf.Tensor) -> State:
    """A step of an LSTM, from its gates [batch, 4 * units] and its last c."""
    units = int(c.shape[1])
    three, j = tf.split(gates, [3 * units, units], axis=1)
    i, f, o = tf.split(tf.sigmoid(three), 3, axis=1)
    c = f * c + i * tf.tanh(j)
    return c, o * tf.tanh(c)


def opening(weights: Weights, z: tf.Tensor) -> Tuple[List[State], tf.Tensor]:
    """What the decoder needs of z [batch, z_size] once: its first states, and z's share in the lowest gates."""
    dense = "decoder/z_to_initial_state/"
    packed = tf.tanh(tf.matmul(z, weights[dense + "kernel"]) + weights[dense + "bias"])
    lowest, highest = decoder_layers(weights)
    lower, upper = lowest.held.shape[0], highest.held.shape[0]
    c0, h0, c1, h1 = tf.split(packed, [lower, lower, upper, upper], axis=1)
    share = tf.matmul(z, lowest.seen[DEPTH:]) + lowest.bias
    return [(c0, h0), (c1, h1)], share


def step(weights: Weights, previous: tf.Tensor, share: tf.Tensor, states: List[State]
         ) -> Tuple[tf.Tensor, List[State]]:
    """A step of the decoder: what it drummed last [batch, 27] and its states → raw outputs [batch, 27], new states."""
    lowest, highest = decoder_layers(weights)
    (c0, h0), (c1, h1) = states
    fused = np.concatenate([lowest.seen[:DEPTH], lowest.held])
    c0, h0 = cell(tf.matmul(tf.concat([previous, h0], 1), fused) + share, c0)
    fused = np.concatenate([highest.seen, highest.held])
    c1, h1 = cell(tf.matmul(tf.concat([h0, h1], 1), fused) + highest.bias, c1)
    dense = "decoder/output_projection/"
    raw = tf.matmul(h1, weights[dense + "kernel"]) + weights[dense + "bias"]
    return raw, [(c0, h0), (c1, h1)]
