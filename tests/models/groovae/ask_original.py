"""Asks Magenta's own graph, in the legacy toolchain: ask_original.py SOURCE FEED.npz ANSWER.npz"""

import sys
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from models.groovae.original import build
from models.groovae.source import read, sizes

source, feed, answer = map(Path, sys.argv[1:])
arrays = read(source)
with tf.Session() as session, np.load(str(feed)) as fed:
    build(sizes(arrays), batch=len(fed["taps"]))
    for variable in tf.global_variables():
        variable.load(arrays[variable.op.name], session)
    names = ("mu", "sigma", "raw", "drums")
    told = session.run([name + ":0" for name in names], {name + ":0": fed[name] for name in fed})
np.savez(str(answer), **dict(zip(names, told)))
