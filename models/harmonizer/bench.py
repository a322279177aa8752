"""The original in the bench: the network in TensorFlow 2.4.1 (Python 3.7)."""

from pathlib import Path
from typing import Any, Callable, Dict

import tensorflow as tf

from models.harmonizer import inputs, weights


def original(source: Path, threads: int) -> Dict[str, Callable[[], Any]]:
    """A call of the Keras network, traced once as TensorFlow's own serving does."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    model = weights.read(source / weights.FILE)
    call = tf.function(lambda melody: model(melody, training=False))
    melody = tf.constant(inputs.bench()["chords"]["melody"])
    return {"chords/original": lambda: call(melody).numpy()}
