"""The original's greedy tokens by its loop, and found from a draft that has none of them right, as JSON, in the jax
toolchain: ask_settled.py SOURCE
"""

import json
import sys
from pathlib import Path

import numpy as np

from models.mt3 import ask, inputs
from models.mt3.weights import read

arrays, sizes = read(Path(sys.argv[1]))
mel = inputs.mels("settled", 2, 40)
written = ask.likeliest(arrays, sizes, ask.encode(arrays, sizes, mel), 12)
print(json.dumps([tokens.tolist() for tokens in (
    written, ask.settled(arrays, sizes, mel, (written + 1) % sizes["vocab_size"]),
    ask.exactly(ask.settled, arrays, sizes, mel, np.zeros_like(written)))]))
