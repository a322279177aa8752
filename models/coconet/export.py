"""Magenta's Coconet becomes denoiser.onnx, and answers for reference.npz (Python 3.7, TensorFlow 2.4.1)."""

import re
from pathlib import Path
from typing import Any, Dict

import numpy as np
import tensorflow.compat.v1 as tf

from models.coconet import inputs
from models.coconet.answers import answers
from models.coconet.original import build, lib_hparams
from models.coconet.seeded import PREFIX
from scripts import detour
from scripts.job import Refusal, progress

OF_TRAINING = re.compile(r"(^|/)(Adam(_1)?|beta[12]_power|learning_rate|global_step)$")


def export(source: Path, out: Path, recipe: Dict[str, Any]) -> None:
    """Write denoiser.onnx and reference.npz from a checkpoint folder. Raises Refusal on a bad one."""
    hparams = read_hyperparameters(source)
    with tf.Graph().as_default(), tf.Session() as session:
        build(hparams)
        load_strictly(session, source)
        progress("converting Magenta's graph, {} layers of {} filters".format(
            hparams.num_layers, hparams.num_filters))
        detour.write(session, recipe["components"]["denoiser"], recipe, out / "denoiser.onnx")

        arrays = answers(session)
    np.savez(str(out / "reference.npz"), **arrays)


def read_hyperparameters(source: Path):
    """Magenta's Hyperparameters from the source's config. Raises Refusal on one that doesn't fit the recipe."""
    try:
        hparams = lib_hparams.load_hparams(str(source))
    except Exception as error:
        raise Refusal("{} is not readable as Coconet hyperparameters: {}".format(source / "config", error)) from error
    found = hparams.min_pitch, hparams.num_pitches, hparams.num_instruments
    expected = inputs.LOWEST, inputs.PITCHES, inputs.VOICES
    if found != expected:
        raise Refusal("{}: expected lowest pitch, pitches, voices {}, found {}: the recipe's ports "
                      "don't fit this model".format(source / "config", expected, found))
    return hparams


def load_strictly(session: tf.Session, source: Path) -> None:
    """Load every variable of the graph from the source's checkpoint, each exactly once.

    What training leaves there besides (coconet_train.py saves its whole graph) is passed
    over by name. Raises Refusal naming each array that is missing, left over, mis-shaped,
    unreadable or not finite.
    """
    try:
        reader = tf.train.NewCheckpointReader(str(source / PREFIX))
    except (tf.errors.OpError, ValueError) as error:
        raise Refusal("{}: not a readable TensorFlow checkpoint: {}".format(
            source / PREFIX, _first_line(error))) from error
    found = {name: shape for name, shape in reader.get_variable_to_shape_map().items() if not OF_TRAINING.search(name)}
    expected = {variable.op.name: variable for variable in tf.global_variables()}
    wrong = ["missing " + name for name in sorted(set(expected) - set(found))]
    wrong += ["unexpected " + name for name in sorted(set(found) - set(expected))]
    for name in sorted(set(found) & set(expected)):
        if found[name] != expected[name].shape.as_list():
            wrong.append("{} is {}, expected {}".format(name, found[name], expected[name].shape.as_list()))
            continue
        try:
            array = reader.get_tensor(name)
        except Exception as error:  # the reader raises whatever a damaged file leads it into
            wrong.append("{} is unreadable ({})".format(name, _first_line(error)))
            continue
        if not np.isfinite(array).all():
            wrong.append("{} holds values that are not finite".format(name))
        elif not wrong:
            expected[name].load(array, session)
    if wrong:
        raise Refusal("{}: {}: the checkpoint and its config don't belong together, or the files are "
                      "damaged".format(PREFIX, "; ".join(wrong)))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
