"""Writes a checkpoint of the golden data's weights and exports it: cast_golden.py CHECKPOINT HPARAMS.json OUT < recipe

In the legacy toolchain. The rule is the one in the golden README for Coconet; the shape and the SHA-256 of each array
that the checkpoint holds are printed. What the original answers takes minutes and isn't asked: the golden data tell.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from models.coconet import export
from models.coconet.seeded import PREFIX, write
from scripts.seeded import seeded_uniform


def value(name, shape, is_logits):
    uniform = seeded_uniform("golden-public/coconet/" + name, shape)
    kind = name.rsplit("/", 1)[-1]
    if kind == "weights":
        return uniform * np.float32(np.sqrt(3 / np.prod(shape[:-1])))
    if kind in ("gamma", "popvariance"):
        return np.float32(1) + np.float32(0.2) * uniform
    return np.float32(0.1) * uniform


hparams = json.loads(Path(sys.argv[2]).read_text())
for legacy in ("num_pitches", "pitch_ranges", "shortest_duration"):
    hparams.pop(legacy, None)
checkpoint, out = Path(sys.argv[1]), Path(sys.argv[3])
write(checkpoint, hparams, value)
export.progress = lambda line: None
export.answers = lambda session: {}
export.export(checkpoint, out, json.load(sys.stdin))
reader = tf.train.load_checkpoint(str(checkpoint / PREFIX))
arrays = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
print(json.dumps({name: [array.shape, hashlib.sha256(array.tobytes()).hexdigest()] for name, array in arrays.items()}))
