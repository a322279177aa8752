"""The Keras network becomes chords.onnx, and answers for reference.npz (Python 3.7, TensorFlow 2.4.1)."""

from pathlib import Path
from typing import Any, Dict

import numpy as np
import tensorflow as tf

from models.harmonizer import inputs, weights
from scripts import detour, float64
from scripts.freeze import function_graph
from scripts.job import progress
from scripts.reference import EXACT


def export(source: Path, out: Path, recipe: Dict[str, Any]) -> None:
    """Write chords.onnx and reference.npz from a folder with harmonizer.h5. Raises Refusal on bad weights."""
    model = weights.read(source / weights.FILE)
    progress("converting the network of {:,} parameters".format(model.count_params()))
    with graph(model, recipe).as_default(), tf.compat.v1.Session() as session:
        detour.write(session, recipe["components"]["chords"], recipe, out / "chords.onnx")
        exactly = float64.answering(session, ["logits"])
    told = {}
    for case, melody in inputs.reference().items():
        progress("asking the original: {}".format(case))
        told["chords/{}/melody".format(case)] = melody
        told["chords/{}/logits".format(case)] = model(melody, training=False).numpy()
        told["chords/{}/logits{}".format(case, EXACT)] = exactly({"melody": melody})["logits"]
    np.savez(str(out / "reference.npz"), **told)


def graph(model: tf.keras.Model, recipe: Dict[str, Any]) -> tf.Graph:
    """What the network computes, as a graph with the recipe's ports."""
    function = tf.function(lambda melody: {"logits": model(melody, training=False)})
    spec = tf.TensorSpec([None, None], tf.int64, "melody")
    return function_graph(function.get_concrete_function(spec), recipe["components"]["chords"])
