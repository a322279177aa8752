"""How far the Flax network here is from the golden data, as JSON, in the jax toolchain: ask_golden.py GOLDEN/mt3"""

import json
import sys
from pathlib import Path

import numpy as np

from models.mt3 import original
from scripts.seeded import seeded_uniform
from tests.models.mt3.golden_weights import golden_arrays

GOLDEN = Path(sys.argv[1])
SIZES = {"emb_dim": 512, "num_heads": 6, "head_dim": 64, "mlp_dim": 1024, "num_encoder_layers": 8,
         "num_decoder_layers": 8, "input_depth": 512}


found = {}


def compare(name, array, told, tokens=False):
    array = np.asarray(array)
    found[name] = {"error": 0.0 if tokens else float(np.abs(array - told).max()),
                   "tokens_differ": int((array != told).sum()) if tokens else 0}


for model, file, vocabulary, stride in (("mt3", "network.npz", 1536, 4),
                                        ("ismir2021", "network_ismir2021.npz", 1664, 8)):
    sizes, told = dict(SIZES, vocab_size=vocabulary), np.load(GOLDEN / file)
    arrays, mel, tokens = golden_arrays(sizes), told["encoder_features"], told["decoder_input_tokens"]
    encoded, greedy = original.encode(arrays, sizes, mel), original.greedy(sizes, 128, 128)
    compare(f"{model} encoder", encoded[:, ::stride], told["encoder_output"])
    compare(f"{model} logits", original.decode(arrays, sizes, encoded, tokens), told["logits"])
    compare(f"{model} greedy", greedy(original.parameters(arrays, "decoder"), encoded), told["greedy_tokens"],
            tokens=True)
    short = mel[:, :int(told["short_length"])]
    padded = np.pad(short, ((0, 0), (0, mel.shape[1] - short.shape[1]), (0, 0)))
    for case, heard in (("short", short), ("zeropad", padded)):
        listened = original.encode(arrays, sizes, heard)
        compare(f"{model} {case} encoder", listened[:, ::stride], told[f"{case}_encoder_output"])
        compare(f"{model} {case} logits", original.decode(arrays, sizes, listened, tokens)[:, ::8],
                told[f"{case}_logits"])
    arrays = golden_arrays(sizes, embedding=100)
    compare(f"{model} emb100 logits", original.decode(arrays, sizes, encoded, tokens)[:, ::8], told["emb100_logits"])
    compare(f"{model} emb100 greedy", greedy(original.parameters(arrays, "decoder"), encoded),
            told["emb100_greedy_tokens"], tokens=True)

told, sizes = np.load(GOLDEN / "beam1.npz"), dict(SIZES, vocab_size=1536)
beam = original.beam(sizes, 128)
mel = np.float32(4) * seeded_uniform("golden-public/mt3/input/mt3/beam_features", (4, 256, 512)) - np.float32(4)
for number, (embedding, end) in enumerate(zip(told["embedding_multiplier"], told["eos_column_multiplier"])):
    arrays = golden_arrays(sizes, embedding, end)
    tokens, scores = beam(original.parameters(arrays, "decoder"), original.encode(arrays, sizes, mel))
    compare(f"beam {number}", tokens, told["beam_128"][number], tokens=True)
    compare(f"score {number}", scores, told["score_128"][number])
print(json.dumps(found))
