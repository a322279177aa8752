"""Coconet's source layout: config, checkpoint, best_model.ckpt.* (Python 3.7, TensorFlow 2.4.1).

What the layout holds is fixed by magenta/models/coconet/lib_graph.py (load_checkpoint)
and coconet_train.py: hyperparameters as YAML, and a TensorFlow V2 checkpoint.
"""

from pathlib import Path
from typing import Any, Callable, Dict, Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from models.coconet import inputs
from models.coconet.original import build, lib_hparams
from scripts import float64
from scripts.job import Refusal
from scripts.seeded import seeded_uniform

PREFIX = "best_model.ckpt"


def weight(name: str, shape: Sequence[int], is_logits: bool) -> np.ndarray:
    """The stand-in value, float32, of the variable with the given TensorFlow name.

    Scaled by fan-in, with batch-norm gains that keep the residual stream steady over 64
    layers and give logits of the size that trained networks have.
    """
    uniform = seeded_uniform("coconet/" + name, shape)
    kind = name.rsplit("/", 1)[-1]
    if kind in ("weights", "pointwise_kernel", "kernel"):
        return uniform * np.float32(np.sqrt(3 / np.prod(shape[:-1])))
    if kind == "depthwise_kernel":
        return uniform * np.float32(np.sqrt(3 / np.prod(shape[:2])))
    if kind == "gamma":
        return (1 + np.float32(0.2) * uniform) * np.float32(16 if is_logits else 0.5)
    if kind == "popvariance":
        return 1 + np.float32(0.2) * uniform
    assert kind in ("beta", "bias", "popmean"), kind
    return np.float32(0.1) * uniform


def population(session: tf.Session) -> Dict[str, np.ndarray]:
    """What popmean and popvariance of each layer of a Normalizing network must be, by their TensorFlow names.

    Computed in float64 and rounded to 8 bits, so that the CPU doesn't matter.
    """
    kinds = {"popmean": "batchmean", "popvariance": "batchvariance"}
    nodes = {variable.op.name: variable.op.name.replace(kind, node) for variable in tf.global_variables()
             for kind, node in kinds.items() if variable.op.name.endswith(kind)}
    rolls = inputs.to_rolls(inputs.progressions("stand-in", 3, 32))
    masks = inputs.hide_some(rolls, "stand-in")
    masks[:1] = inputs.hide_lower_voices(rolls[:1])
    found = float64.answering(session, list(nodes.values()))({"pianorolls": rolls, "masks": masks})
    return {name: rounded(found[node]) for name, node in nodes.items()}


def rounded(values: np.ndarray) -> np.ndarray:
    """float32 of float64, to 8 bits."""
    mantissas, exponents = np.frexp(values)
    return np.ldexp(np.round(256 * mantissas) / 256, exponents).astype(np.float32)


def write(folder: Path, hyperparameters: Dict[str, Any],
          value: Callable[[str, Sequence[int], bool], np.ndarray] = weight) -> None:
    """Write a checkpoint of the given hyperparameters in the upstream's layout.

    value(name, shape, is_logits) gives each variable's float32 array.
    """
    try:
        hparams = lib_hparams.Hyperparameters(**hyperparameters)
        layers = hparams.get_conv_arch().layers
    except Exception as error:  # Magenta raises whatever a wrong value leads it into
        raise Refusal("models/coconet/recipe.toml, [sources]: {} are no Coconet hyperparameters: {}".format(
            hyperparameters, error)) from error
    with tf.Graph().as_default(), tf.Session() as session:
        build(hparams)
        last = "model/conv{}/".format(len(layers) - 1)
        for variable in tf.global_variables():
            name = variable.op.name
            variable.load(value(name, variable.shape.as_list(), name.startswith(last)), session)
        saver = tf.train.Saver()
        saver.save(session, str(folder / PREFIX), write_state=False, write_meta_graph=False)
        # Saver's own .meta holds the loss's assertions, whose protobuf maps are written in a random order.
        meta = tf.train.export_meta_graph(saver_def=saver.as_saver_def(), collection_list=["variables"])
        (folder / (PREFIX + ".meta")).write_bytes(meta.SerializeToString(deterministic=True))
    with (folder / "config").open("w") as file:
        hparams.dump(file)
    # As tf.train.update_checkpoint_state writes it, without its timestamps.
    (folder / "checkpoint").write_text(
        'model_checkpoint_path: "{0}"\nall_model_checkpoint_paths: "{0}"\n'.format(PREFIX))
