"""Asks Magenta's network in float32 and float64, in the legacy toolchain: ask_original.py SOURCE FEED.npz ANSWER.npz"""

import sys
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from models.coconet import hyperparameters
from models.coconet.original import build
from models.coconet.weights import load_strictly
from scripts import float64
from scripts.reference import EXACT

source, feed, answer = map(Path, sys.argv[1:])
PORTS = "logits", "probabilities"
with tf.Session() as session, np.load(str(feed)) as arrays:
    build(hyperparameters.read(source))
    load_strictly(session, source)
    given = {name: arrays[name] for name in ("pianorolls", "masks")}
    found = dict(zip(PORTS, session.run([port + ":0" for port in PORTS],
                                        {name + ":0": array for name, array in given.items()})))
    exact = float64.answering(session, PORTS)(given)
np.savez(str(answer), **found, **{port + EXACT: array for port, array in exact.items()})
