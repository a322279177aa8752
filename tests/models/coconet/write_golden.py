"""Writes a checkpoint of the golden data's weights, in the legacy toolchain: write_golden.py FOLDER HPARAMS.json

The rule is the one in the golden README for Coconet.
"""

import json
import sys
from pathlib import Path

import numpy as np

from models.coconet.seeded import write
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
write(Path(sys.argv[1]), hparams, value)
