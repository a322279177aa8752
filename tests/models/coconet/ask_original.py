"""Asks Magenta's network, in the legacy toolchain: ask_original.py SOURCE FEED.npz ANSWER.npz"""

import sys
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from models.coconet import hyperparameters
from models.coconet.original import build
from models.coconet.weights import load_strictly

source, feed, answer = map(Path, sys.argv[1:])
with tf.Session() as session, np.load(str(feed)) as arrays:
    build(hyperparameters.read(source))
    load_strictly(session, source)
    logits, probabilities = session.run(
        ["logits:0", "probabilities:0"], {"pianorolls:0": arrays["pianorolls"], "masks:0": arrays["masks"]})
np.savez(str(answer), logits=logits, probabilities=probabilities)
