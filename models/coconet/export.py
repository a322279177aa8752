"""Magenta's Coconet becomes denoiser.onnx, and answers for reference.npz (Python 3.7, TensorFlow 2.4.1)."""

import json
from pathlib import Path
from typing import Any, Dict

import numpy as np
import tensorflow.compat.v1 as tf

from models.coconet import hyperparameters
from models.coconet.answers import answers
from models.coconet.converted import Converted
from models.coconet.original import build
from models.coconet.weights import load_strictly
from scripts import detour
from scripts.job import progress


def export(source: Path, out: Path, recipe: Dict[str, Any]) -> None:
    """Write denoiser.onnx, its architecture and reference.npz from a checkpoint folder. Raises Refusal on a bad one."""
    hparams = hyperparameters.read(source)
    architecture = hyperparameters.described(hparams)
    with tf.Graph().as_default(), tf.Session() as session:
        build(hparams, Converted)
        load_strictly(session, source)
        progress("converting Magenta's graph, {}".format(architecture))
        detour.write(session, recipe["components"]["denoiser"], recipe, out / "denoiser.onnx")
    with tf.Graph().as_default(), tf.Session() as session:
        build(hparams)
        load_strictly(session, source)
        np.savez(str(out / "reference.npz"), **answers(session))
    (out / "metadata.json").write_text(json.dumps({"architecture": architecture}) + "\n")
