"""The original in the bench: Magenta's layers in TensorFlow 2.4.1 (Python 3.7). Its sampling loop can't build them."""

from pathlib import Path
from typing import Any, Callable, Dict

import tensorflow.compat.v1 as tf

from models.coconet import inputs
from models.coconetjs.ask import load


def original(source: Path, threads: int) -> Dict[str, Callable[[], Any]]:
    """A call of the network."""
    feed = inputs.bench()["denoiser"]
    config = tf.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=1)
    with tf.Graph().as_default() as graph:
        network = tf.Session(graph=graph, config=config)
        load(network, source)
    return {"denoiser/original": lambda: network.run(
        ["logits:0", "probabilities:0"], {name + ":0": array for name, array in feed.items()})}
