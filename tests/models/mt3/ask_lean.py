"""The tokens of lean JAX and of the network as written, as JSON, in the jax toolchain: ask_lean.py SOURCE"""

import json
import sys
from pathlib import Path

import numpy as np

from models.mt3 import bench, inputs, original
from models.mt3.weights import read

arrays, sizes = read(Path(sys.argv[1]))
encoded = original.encode(arrays, sizes, inputs.mels("lean", 3, 40))
decoder = original.parameters(arrays, "decoder")
print(json.dumps([np.asarray(decode(decoder, encoded)).tolist()
                  for decode in (bench.lean(sizes, 40), original.greedy(sizes, 40, 64))]))
