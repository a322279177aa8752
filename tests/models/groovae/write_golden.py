"""Writes a checkpoint of the golden data's weights, in the legacy toolchain: write_golden.py FOLDER

The rule is the one in the golden README for GrooVAE.
"""

import sys
from pathlib import Path

import numpy as np

from models.groovae.seeded import write
from scripts.seeded import seeded_uniform


def value(name, shape):
    uniform = seeded_uniform("golden-public/groovae/" + name, shape)
    if name.endswith("kernel"):
        return uniform * np.float32(np.sqrt(3 / np.prod(shape[:-1])))
    return np.float32(0.1) * uniform


write(Path(sys.argv[1]), {"enc_rnn_size": [512], "dec_rnn_size": [256, 256]}, value)
