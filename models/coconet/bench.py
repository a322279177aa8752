"""The original in the bench: Magenta's graphs in TensorFlow 2.4.1 (Python 3.7)."""

from pathlib import Path
from typing import Any, Callable, Dict

import tensorflow.compat.v1 as tf

from models.coconet import hyperparameters, inputs
from models.coconet.original import Graph, build, lib_tfsampling
from models.coconet.weights import load_strictly


class Sampler(lib_tfsampling.CoconetSampleGraph):
    """Magenta's own sampling loop, around the layers that its own code fails on, too."""

    def predict(self, pianorolls: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
        inside = {"pianorolls": pianorolls, "masks": masks, "lengths": tf.cast([tf.shape(pianorolls)[1]], tf.float32)}
        with tf.variable_scope("model"):
            return Graph(False, self.hparams, direct_inputs=inside, use_placeholders=False).logits


def original(source: Path, threads: int) -> Dict[str, Callable[[], Any]]:
    """A call for each component: the network, and Magenta's own sampling loop (lib_tfsampling)."""
    feeds = inputs.bench()
    config = tf.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=1)

    with tf.Graph().as_default() as graph:
        build(hyperparameters.read(source))
        network = tf.Session(graph=graph, config=config)
        load_strictly(network, source)

    with tf.Graph().as_default() as graph:
        sampler = Sampler(str(source))
        sampler.build_sample_graph()
        sampler.sess = tf.Session(graph=graph, config=config)
        load_strictly(sampler.sess, source)

    denoise, harmonize = feeds["denoiser"], feeds["harmonizer"]
    return {
        "denoiser/original": lambda: network.run(["logits:0", "probabilities:0"], {
            "pianorolls:0": denoise["pianorolls"], "masks:0": denoise["masks"]}),
        "harmonizer/original": lambda: sampler.run(
            harmonize["pianorolls"] > 0, harmonize["masks"],
            total_gibbs_steps=int(harmonize["steps"]), temperature=float(harmonize["temperature"])),
    }
