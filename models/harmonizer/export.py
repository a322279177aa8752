"""The Keras network becomes chords.onnx, and answers for reference.npz (Python 3.7, TensorFlow 2.4.1)."""

from pathlib import Path
from typing import Any, Dict

import numpy as np
import onnx
import tensorflow as tf

from models.harmonizer import inputs, weights
from scripts.freeze import freeze_function
from scripts.job import progress


def export(source: Path, out: Path, recipe: Dict[str, Any]) -> None:
    """Write chords.onnx and reference.npz from a folder with harmonizer.h5. Raises Refusal on bad weights."""
    model = weights.read(source / weights.FILE)
    progress("converting the network of {:,} parameters".format(model.count_params()))
    function = tf.function(lambda melody: model(melody, training=False)).get_concrete_function(
        tf.TensorSpec([None, None], tf.int64, "melody"))
    onnx.save(freeze_function(function, ["melody"], ["logits"], recipe["opset"]), str(out / "chords.onnx"))
    told = {}
    for case, melody in inputs.reference().items():
        progress("asking the original: {}".format(case))
        told["chords/{}/melody".format(case)] = melody
        told["chords/{}/logits".format(case)] = model(melody, training=False).numpy()
    np.savez(str(out / "reference.npz"), **told)
