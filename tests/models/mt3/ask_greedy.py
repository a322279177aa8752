"""The likeliest tokens by Flax, in the jax toolchain: ask_greedy.py SOURCE FEED.npz ANSWER.npz LENGTH"""

import sys
from pathlib import Path

import numpy as np

from models.mt3 import original
from models.mt3.weights import read

source, feed, answer, length = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
arrays, sizes = read(source)
encoded = original.encode(arrays, sizes, np.load(feed)["mel"])
tokens = np.asarray(original.greedy(sizes, length, length)(original.parameters(arrays, "decoder"), encoded))
over = np.cumsum(tokens == 1, axis=1) - (tokens == 1) > 0
np.savez(answer, tokens=np.where(over, 0, tokens))
