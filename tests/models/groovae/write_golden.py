"""Writes a checkpoint of the golden data's weights, in the legacy toolchain: write_golden.py FOLDER

The rule is the one in the golden README for GrooVAE. Prints the shape and the SHA-256 of each array that it holds.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from models.groovae.seeded import write
from models.groovae.source import read
from scripts.seeded import seeded_uniform


def value(name, shape):
    uniform = seeded_uniform("golden-public/groovae/" + name, shape)
    if name.endswith("kernel"):
        return uniform * np.float32(np.sqrt(3 / np.prod(shape[:-1])))
    return np.float32(0.1) * uniform


write(Path(sys.argv[1]), {"enc_rnn_size": [512], "dec_rnn_size": [256, 256]}, value)
arrays = {name: array for name, array in read(Path(sys.argv[1])).items() if name != "global_step"}
print(json.dumps({name: [array.shape, hashlib.sha256(array.tobytes()).hexdigest()] for name, array in arrays.items()}))
