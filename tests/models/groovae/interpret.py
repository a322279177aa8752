"""Runs a model by TensorFlow Lite's interpreter, in the legacy toolchain: interpret.py MODEL FEED.npz ANSWER.npz

Prints what the file says of itself, and how often each operator occurs, as JSON.
"""

import json
import sys
from pathlib import Path

import numpy as np

from scripts.lite import interpret, labelled, operators

model, feed, answer = map(Path, sys.argv[1:])
with np.load(str(feed)) as fed:
    np.savez(str(answer), drums=interpret(model, dict(fed), ["drums"])[0])
print(json.dumps([labelled(model.read_bytes()), operators(model.read_bytes())]))
