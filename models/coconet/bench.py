"""The original in the bench: Magenta's graphs in TensorFlow 2.4.1 (Python 3.7)."""

from pathlib import Path
from typing import Any, Callable, Dict

import tensorflow.compat.v1 as tf

from models.coconet import inputs
from models.coconet.original import build, lib_hparams, lib_tfsampling
from models.coconet.seeded import PREFIX


def original(source: Path, threads: int) -> Dict[str, Callable[[], Any]]:
    """A call for each component: the network, and Magenta's own sampling loop (lib_tfsampling)."""
    feeds = inputs.bench()
    config = tf.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=1)

    with tf.Graph().as_default() as graph:
        build(lib_hparams.load_hparams(str(source)))
        network = tf.Session(graph=graph, config=config)
        tf.train.Saver().restore(network, str(source / PREFIX))

    with tf.Graph().as_default() as graph:
        sampler = lib_tfsampling.CoconetSampleGraph(str(source))
        sampler.build_sample_graph()
        sampler.sess = tf.Session(graph=graph, config=config)
        tf.train.Saver().restore(sampler.sess, str(source / PREFIX))

    denoise, harmonize = feeds["denoiser"], feeds["harmonizer"]
    return {
        "denoiser/original": lambda: network.run(["logits:0", "probabilities:0"], {
            "pianorolls:0": denoise["pianorolls"], "masks:0": denoise["masks"]}),
        "harmonizer/original": lambda: sampler.run(
            harmonize["pianorolls"] > 0, harmonize["masks"],
            total_gibbs_steps=int(harmonize["steps"]), temperature=float(harmonize["temperature"])),
    }
