"""Magenta's Coconet becomes denoiser.onnx, and answers for reference.npz (Python 3.7, TensorFlow 2.4.1)."""

import re
from pathlib import Path
from typing import Any, Dict

import numpy as np
import onnx
import tensorflow.compat.v1 as tf

from models.coconet import inputs
from models.coconet.original import build, lib_hparams, lib_tfsampling
from models.coconet.seeded import PREFIX
from scripts.freeze import freeze
from scripts.job import Refusal, progress

TEMPERATURE = 0.9
OF_TRAINING = re.compile(r"(^|/)(Adam(_1)?|beta[12]_power|learning_rate|global_step)$")


def export(source: Path, out: Path, recipe: Dict[str, Any]) -> None:
    """Write denoiser.onnx and reference.npz from a checkpoint folder. Raises Refusal on a bad one."""
    hparams = read_hyperparameters(source)
    with tf.Graph().as_default(), tf.Session() as session:
        build(hparams)
        load_strictly(session, source)
        progress("converting Magenta's graph, {} layers of {} filters".format(
            hparams.num_layers, hparams.num_filters))
        ports = recipe["components"]["denoiser"]
        model = freeze(session, [p["name"] for p in ports["inputs"]], [p["name"] for p in ports["outputs"]],
                       recipe["opset"])
        onnx.save(model, str(out / "denoiser.onnx"))

        arrays = {}
        for case, feed in inputs.reference().items():
            progress("asking the original: denoiser, {}".format(case))
            logits, probabilities = session.run(["logits:0", "probabilities:0"], {
                "pianorolls:0": feed["pianorolls"], "masks:0": feed["masks"]})
            for port, array in dict(feed, logits=logits, probabilities=probabilities).items():
                arrays["denoiser/{}/{}".format(case, port)] = array
        for case, (pitches, steps) in inputs.chains().items():
            progress("asking the original: harmonizer, {}".format(case))
            for port, array in gibbs_chain(session, inputs.to_rolls(pitches), steps).items():
                arrays["harmonizer/{}/{}".format(case, port)] = array
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


def gibbs_chain(session: tf.Session, rolls: np.ndarray, steps: int) -> Dict[str, np.ndarray]:
    """The harmonizer's inputs and output: the chain run step by step through Magenta's graph.

    The schedule is Magenta's own (lib_tfsampling.compute_mask_prob_from_yao_schedule, after
    Yao et al. 2014); a first pass predicts every hidden note, as in build_sample_graph, whose
    other trait, losing the given voices, is left out. Each drawn uniform is then moved to the
    middle of the interval that it fell into, so that it chooses the same pitch on every
    machine, whatever the last bits of its exponentials.
    """
    outer = inputs.hide_lower_voices(rolls)
    uniforms = inputs.seeded_unit("coconet/chain", (steps + 1, 2, *rolls.shape[:2], inputs.VOICES))

    logits = session.graph.get_tensor_by_name("logits:0")
    uniform = tf.placeholder(tf.float32, [None, None, inputs.VOICES])
    scaled = (logits - tf.reduce_max(logits, axis=2, keepdims=True)) / TEMPERATURE
    cumulative = tf.cumsum(tf.exp(scaled), axis=2)
    total = cumulative[:, :, -1:, :]
    below = tf.cast(cumulative <= uniform[:, :, None, :] * total, tf.int32)
    drawn = tf.one_hot(tf.minimum(tf.reduce_sum(below, axis=2), inputs.PITCHES - 1), inputs.PITCHES, axis=2)
    upper = tf.reduce_sum(cumulative * drawn, axis=2)
    middle = (upper - tf.reduce_sum(tf.exp(scaled) * drawn, axis=2) / 2) / total[:, :, 0, :]
    step = tf.placeholder(tf.float32, [])
    share = lib_tfsampling.compute_mask_prob_from_yao_schedule(step, float(steps))

    current = rolls
    for number in range(steps + 1):
        hidden = 1.0 if number == 0 else session.run(share, {step: number - 1})
        masks = (uniforms[number, 0] < hidden)[:, :, None, :] * outer
        sample, uniforms[number, 1] = session.run([drawn, middle], {
            "pianorolls:0": current, "masks:0": masks, uniform: uniforms[number, 1]})
        current = np.where(masks > 0, sample, current)
    return {
        "pianorolls": rolls, "masks": outer, "uniforms": uniforms,
        "temperature": np.float32(TEMPERATURE), "steps": np.int64(steps), "harmonized": current,
    }
