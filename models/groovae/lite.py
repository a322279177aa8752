"""GrooVAE for TensorFlow Lite: a graph of builtin operations alone (Python 3.7, TensorFlow 2.4.1).

Magenta's loops keep their outputs in TensorArrays, which become tensor lists that TensorFlow Lite
has no kernels for ("TensorListSetItem ... explicitly marked illegal"). Here a loop's outputs go
into a dense array, each step's to its place by a one-hot factor.
"""

from pathlib import Path
from typing import Dict, List, Tuple

import tensorflow.compat.v1 as tf

from models.groovae import network
from models.groovae.inputs import DEPTH, DRUMS, LATENT
from models.groovae.source import read

tf.enable_control_flow_v2()  # TensorFlow Lite has loops as functions only


def build(source: Path) -> Dict[str, Tuple[List[tf.Tensor], List[tf.Tensor]]]:
    """Build the way from taps to drums in the current graph; its inputs and outputs, named as the recipe's ports."""
    weights = read(source)
    taps = tf.placeholder(tf.float32, [None, None, DEPTH], "taps")
    eps = tf.placeholder(tf.float32, [None, LATENT], "eps")
    uniforms = tf.placeholder(tf.float32, [None, None, DRUMS], "uniforms")
    temperature = tf.placeholder(tf.float32, [], "temperature")
    mu, sigma = encode(weights, taps)
    drums = decode(weights, mu + sigma * eps, uniforms, temperature)
    return {"groove": ([taps, eps, uniforms, temperature], [tf.identity(drums, "drums")])}


def encode(weights: network.Weights, taps: tf.Tensor) -> Tuple[tf.Tensor, tf.Tensor]:
    """taps [batch, time, 27] → mu, sigma [batch, z_size]; both directions in one loop."""
    length = tf.shape(taps)[1]
    forward, backward = (network.encoder_layer(weights, direction) for direction in network.DIRECTIONS)
    units = forward.held.shape[0]
    ahead, behind = (
        tf.reshape(tf.matmul(tf.reshape(taps, [-1, DEPTH]), layer.seen) + layer.bias, [-1, length, 4 * units])
        for layer in (forward, backward))

    def listen(time, c_forward, h_forward, c_backward, h_backward):
        first = tf.gather(ahead, time, axis=1) + tf.matmul(h_forward, forward.held)
        last = tf.gather(behind, length - 1 - time, axis=1) + tf.matmul(h_backward, backward.held)
        return (time + 1, *network.cell(first, c_forward), *network.cell(last, c_backward))

    silence = tf.zeros([tf.shape(taps)[0], units])
    _, _, h_forward, _, h_backward = tf.while_loop(lambda time, *_: time < length, listen, [0] + 4 * [silence])
    heard = tf.concat([h_forward, h_backward], 1)
    mu, sigma = (tf.matmul(heard, weights["encoder/{}/kernel".format(name)]) + weights["encoder/{}/bias".format(name)]
                 for name in ("mu", "sigma"))
    return mu, tf.nn.softplus(sigma)


def decode(weights: network.Weights, z: tf.Tensor, uniforms: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
    """z [batch, z_size], uniforms [batch, time, 9] → drums [batch, time, 27], as models/groovae/compose.py has it."""
    batch, length = tf.shape(uniforms)[0], tf.shape(uniforms)[1]
    ((c0, h0), (c1, h1)), share = network.opening(weights, z)
    heat = tf.maximum(temperature, 1e-30)

    def drum(time, previous, c0, h0, c1, h1, drummed):
        raw, ((c0, h0), (c1, h1)) = network.step(weights, previous, share, [(c0, h0), (c1, h1)])
        logits, velocities, offsets = tf.split(raw, 3, axis=1)
        hits = tf.cast(tf.sigmoid(logits / heat) > tf.gather(uniforms, time, axis=1), tf.float32)
        drums = tf.concat([hits, tf.sigmoid(velocities), tf.tanh(offsets)], 1)
        here = tf.one_hot(time, length)[None, :, None]
        return time + 1, drums, c0, h0, c1, h1, drummed + here * drums[:, None, :]

    nothing = tf.zeros([batch, DEPTH])
    *_, drummed = tf.while_loop(lambda time, *_: time < length, drum,
                                [0, nothing, c0, h0, c1, h1, tf.zeros([batch, length, DEPTH])])
    return drummed
