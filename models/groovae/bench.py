"""The original in the bench: Magenta's graph in TensorFlow 2.4.1 (Python 3.7)."""

from pathlib import Path
from typing import Any, Callable, Dict

import tensorflow.compat.v1 as tf

from models.groovae import inputs
from models.groovae.original import build
from models.groovae.source import read, sizes

OUTPUTS = {"encoder": ["mu:0", "sigma:0"], "decoder": ["drums:0"], "groove": ["drums:0"]}


def original(source: Path, threads: int) -> Dict[str, Callable[[], Any]]:
    """A call for each component, all in one session, as Magenta's TrainedModel has it."""
    arrays = read(source)
    config = tf.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=1)
    with tf.Graph().as_default() as graph:
        build(sizes(arrays), batch=1)
        session = tf.Session(graph=graph, config=config)
        for variable in tf.global_variables():
            variable.load(arrays[variable.op.name], session)

    def call(component: str) -> Callable[[], Any]:
        feed = {name + ":0": array for name, array in inputs.bench()[component].items()}
        return lambda: session.run(OUTPUTS[component], feed)

    return {"{}/original".format(component): call(component) for component in OUTPUTS}
