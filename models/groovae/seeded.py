"""GrooVAE's source layout, that of the released model.ckpt-3668.* (Python 3.7, TensorFlow 2.4.1).

A checkpoint of Magenta's training (music_vae_train.py) as it was in 2019: the LSTMs twice, plainly
and as cuDNN's opaque kernels, and Adam's two slots of whatever it trained. What only training
needs is zero here.
"""

from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from models.groovae import source
from models.groovae.inputs import DEPTH, LATENT
from scripts.seeded import seeded_uniform

STEPS = 3668
PREFIX = "model.ckpt-{}".format(STEPS)


def weight(name: str, shape: Sequence[int]) -> np.ndarray:
    """The stand-in value, float32, of the variable with the given TensorFlow name.

    Scaled by fan-in; with more weight on the taps, so that others make other drums, and on the
    outputs, where each drum has a share of hits of its own, as in trained networks.
    """
    uniform = seeded_uniform("groovae/" + name, shape)
    if name == "decoder/output_projection/bias":
        return uniform
    if name.endswith("bias"):
        return np.float32(0.1) * uniform
    assert name.endswith("kernel"), name
    kernel = uniform * np.float32(np.sqrt(3 / np.prod(shape[:-1])))
    if name.startswith("encoder") and name.endswith("lstm_cell/kernel"):
        kernel[:DEPTH] *= np.float32(3)
    return kernel * np.float32(3) if "output_projection" in name else kernel


def write(folder: Path, sizes: Dict[str, Any], value: Callable[[str, Sequence[int]], np.ndarray] = weight) -> None:
    """Write a checkpoint in the upstream's layout: sizes are enc_rnn_size and dec_rnn_size, lists of units.

    value(name, shape) gives each of the network's arrays, float32.
    """
    network = source.variables(dict(sizes, z_size=LATENT))
    arrays = {name: value(name, shape) for name, shape in network.items() if name != "global_step"}
    arrays.update({name: np.zeros(shape, np.float32) for name, shape in training_shapes(network).items()})
    arrays["global_step"] = np.array(STEPS, np.int64)
    with tf.Graph().as_default(), tf.Session() as session:
        held = [tf.get_variable(name, array.shape, tf.as_dtype(array.dtype)) for name, array in sorted(arrays.items())]
        for variable in held:
            variable.load(arrays[variable.op.name], session)
        saver = tf.train.Saver()
        saver.save(session, str(folder / PREFIX), write_state=False, write_meta_graph=False)
        # Saver's own .meta is written in a random order.
        meta = tf.train.export_meta_graph(saver_def=saver.as_saver_def(), collection_list=["variables"])
        (folder / (PREFIX + ".meta")).write_bytes(meta.SerializeToString(deterministic=True))


def training_shapes(network: Dict[str, List[int]]) -> Dict[str, List[int]]:
    """The shapes of what a training run of 2019 saved beside the network, by name."""
    cells: Dict[str, int] = {}
    for name, shape in network.items():
        if "lstm_cell" in name:
            scope = name.split("multi_rnn_cell")[0]
            # A cuDNN kernel holds the weights and two biases a gate.
            cells[scope] = cells.get(scope, 0) + int(np.prod(shape)) * (1 if name.endswith("kernel") else 2)
    opaque = {scope + "opaque_kernel": [count] for scope, count in cells.items()}
    trained = dict(opaque, **{name: shape for name, shape in network.items()
                              if "lstm_cell" not in name and name != "global_step"})
    slots = {name + slot: shape for name, shape in trained.items() for slot in ("/Adam", "/Adam_1")}
    return dict(opaque, beta1_power=[], beta2_power=[], **slots)
