"""Magenta's GrooVAE becomes ONNX, and answers for reference.npz (Python 3.7, TensorFlow 2.4.1)."""

from pathlib import Path
from typing import Any, Dict

import numpy as np
import onnx
import tensorflow.compat.v1 as tf
from onnx.helper import make_node

from models.groovae import inputs, network
from models.groovae.inputs import DRUMS
from models.groovae.original import build
from models.groovae.source import read, sizes
from scripts.freeze import freeze
from scripts.job import progress


def export(source: Path, out: Path, recipe: Dict[str, Any]) -> None:
    """Write encoder.onnx, opening.onnx, step.onnx and reference.npz. Raises Refusal on a bad checkpoint."""
    arrays = read(source)
    told = sizes(arrays)
    progress("converting the encoder of {enc_rnn_size} and the decoder of {dec_rnn_size} units".format(**told))
    onnx.save(encoder(arrays, recipe["opset"]), str(out / "encoder.onnx"))
    for name, graph in (("opening", opening), ("step", step)):
        ports = [[port["name"] for port in recipe["steps"][name][kind]] for kind in ("inputs", "outputs")]
        with tf.Graph().as_default(), tf.Session() as session:
            graph(arrays)
            onnx.save(freeze(session, *ports, opset=recipe["opset"]), str(out / (name + ".onnx")))
    np.savez(str(out / "reference.npz"), **reference(arrays))


def encoder(arrays: network.Weights, opset: int) -> onnx.ModelProto:
    """taps [batch, time, 27] → mu, sigma [batch, z_size]: one LSTM of both directions, and two dense layers.

    ONNX has an LSTM's gates in the order i, o, f, c, its weights transposed, and two biases.
    """
    layers = [network.encoder_layer(arrays, direction) for direction in network.DIRECTIONS]
    units = layers[0].held.shape[0]

    def for_onnx(gates: np.ndarray) -> np.ndarray:
        i, f, o, c = np.split(gates, 4, axis=-1)
        return np.concatenate([i, o, f, c], axis=-1).T

    weights = {
        "lstm_seen": np.stack([for_onnx(layer.seen) for layer in layers]),
        "lstm_held": np.stack([for_onnx(layer.held) for layer in layers]),
        "lstm_bias": np.stack([np.append(for_onnx(layer.bias), np.zeros_like(layer.bias)) for layer in layers]),
        "both_directions": np.array([0, 2 * units]),
        **{name: arrays["encoder/" + name] for name in ("mu/kernel", "mu/bias", "sigma/kernel", "sigma/bias")},
    }
    nodes = [
        make_node("Transpose", ["taps"], ["steps"], perm=[1, 0, 2]),
        make_node("LSTM", ["steps", "lstm_seen", "lstm_held", "lstm_bias"], ["", "last"], hidden_size=units,
                  direction="bidirectional"),
        make_node("Transpose", ["last"], ["by_groove"], perm=[1, 0, 2]),
        make_node("Reshape", ["by_groove", "both_directions"], ["heard"]),
        make_node("MatMul", ["heard", "mu/kernel"], ["mu/product"]),
        make_node("Add", ["mu/product", "mu/bias"], ["mu"]),
        make_node("MatMul", ["heard", "sigma/kernel"], ["sigma/product"]),
        make_node("Add", ["sigma/product", "sigma/bias"], ["sigma/sum"]),
        make_node("Softplus", ["sigma/sum"], ["sigma"]),
    ]
    taps, mu, sigma = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in (
        ("taps", ["batch", "time", inputs.DEPTH]),
        ("mu", ["batch", inputs.LATENT]),
        ("sigma", ["batch", inputs.LATENT])))
    graph = onnx.helper.make_graph(
        nodes, "encoder", [taps], [mu, sigma],
        [onnx.numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in weights.items()])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)


def opening(arrays: network.Weights) -> None:
    """The graph of network.opening, its nodes named as the recipe's ports."""
    states, share = network.opening(arrays, tf.placeholder(tf.float32, [None, inputs.LATENT], "z"))
    for number, state in enumerate(states):
        for name, array in zip(("c{}", "h{}"), state):
            tf.identity(array, name.format(number))
    tf.identity(share, "share")


def step(arrays: network.Weights) -> None:
    """The graph of network.step, its nodes named as the recipe's ports."""
    units = [layer.held.shape[0] for layer in network.decoder_layers(arrays)]
    previous = tf.placeholder(tf.float32, [None, inputs.DEPTH], "previous")
    share = tf.placeholder(tf.float32, [None, 4 * units[0]], "share")
    states = [tuple(tf.placeholder(tf.float32, [None, count], name.format(number)) for name in ("c{}", "h{}"))
              for number, count in enumerate(units)]
    raw, states = network.step(arrays, previous, share, states)
    tf.identity(raw, "raw")
    for number, state in enumerate(states):
        for name, array in zip(("next_c{}", "next_h{}"), state):
            tf.identity(array, name.format(number))


def reference(arrays: network.Weights) -> Dict[str, np.ndarray]:
    """What Magenta's own graph returns for each case, as `<component>/<case>/<port>`.

    Each drawn uniform is then moved to the middle of the interval that it fell into, so that it
    makes the same hit or rest on every machine, whatever the last bits of its probability.
    """
    told = {}
    for case, feed in inputs.reference().items():
        progress("asking the original: {}".format(case))
        batch = len(feed["taps"])
        with tf.Graph().as_default(), tf.Session() as session:
            build(sizes(arrays), batch)
            for variable in tf.global_variables():
                variable.load(arrays[variable.op.name], session)
            names = ("mu", "sigma", "z", "raw", "drums")
            mu, sigma, z, raw, drums = session.run(
                [name + ":0" for name in names], {name + ":0": array for name, array in feed.items()})
        hits, velocities, offsets = np.split(drums, 3, axis=2)
        if case != "neutral":
            hit = 1 / (1 + np.exp(-raw[..., :DRUMS].astype(np.float64) / feed["temperature"]))
            feed = dict(feed, uniforms=np.where(hits > 0, hit / 2, (1 + hit) / 2).astype(np.float32))
        drawn = {"uniforms": feed["uniforms"], "temperature": feed["temperature"]}
        for component, ports in (
                ("encoder", {"taps": feed["taps"], "mu": mu, "sigma": sigma}),
                ("decoder", dict(drawn, z=z, hits=hits, velocities=velocities, offsets=offsets)),
                ("groove", dict(feed, drums=drums))):
            told.update({"{}/{}/{}".format(component, case, port): array for port, array in ports.items()})
    return told
