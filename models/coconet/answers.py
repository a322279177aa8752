"""What Magenta's network answers, for reference.npz (Python 3.7, TensorFlow 2.4.1)."""

from typing import Dict

import numpy as np
import tensorflow.compat.v1 as tf

from models.coconet import inputs
from models.coconet.original import lib_tfsampling
from scripts import float64
from scripts.job import progress
from scripts.reference import EXACT

TEMPERATURE = 0.9


def answers(session: tf.Session) -> Dict[str, np.ndarray]:
    """What goes in and comes out, as `<component>/<case>/<port>`, of a session with the graph of original.build."""
    arrays = {}
    exactly = float64.answering(session, ["logits", "probabilities"])
    for case, feed in inputs.reference().items():
        progress("asking the original: denoiser, {}".format(case))
        logits, probabilities = session.run(["logits:0", "probabilities:0"], {
            "pianorolls:0": feed["pianorolls"], "masks:0": feed["masks"]})
        exact = {port + EXACT: array for port, array in exactly(feed).items()}
        for port, array in dict(feed, logits=logits, probabilities=probabilities, **exact).items():
            arrays["denoiser/{}/{}".format(case, port)] = array
    for case, (pitches, steps) in inputs.chains().items():
        progress("asking the original: harmonizer, {}".format(case))
        for port, array in gibbs_chain(session, inputs.to_rolls(pitches), steps).items():
            arrays["harmonizer/{}/{}".format(case, port)] = array
    return arrays


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
