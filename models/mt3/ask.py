"""What the original answers, for reference.npz (JAX and Flax).

The network is upstream's (original.py). The spectrogram's original is TensorFlow, which this toolchain
doesn't hold: its formula answers in float64, and the tests hold both against what TensorFlow computed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from models.mt3 import inputs, original, spectrogram
from models.mt3.weights import read
from scripts.job import progress

# What the decoder is asked about: sequences, frames, and how many tokens come before.
QUESTIONS = {"many": (128, 16, (7,)), "one": (1, inputs.SEGMENT, (0, 5))}
Answers = dict[str, Mapping[str, np.ndarray]]


def ask(source: Path, out: Path, recipe: dict[str, Any]) -> None:
    """Write reference.npz. Raises Refusal on a bad checkpoint."""
    arrays, sizes = read(source, recipe["sources"]["custom"]["vocab_size"])
    answers: Answers = {}
    for name, answer in (("frontend", frontend), ("encoder", encoder), ("decoder", decoder),
                         ("transcriber", transcriber)):
        progress(f"asking the original: {name}")
        answers |= {f"{name}/{case}": ports for case, ports in answer(arrays, sizes).items()}
    np.savez(out / "reference.npz", **{f"{case}/{port}": np.asarray(array) for case, ports in answers.items()
                                       for port, array in ports.items()})


def frontend(arrays: original.Arrays, sizes: original.Sizes) -> Answers:
    feeds = {"notes": inputs.sounds("notes", 3, inputs.SEGMENT), "short": inputs.sounds("short", 1, 40)}
    return {case: {"samples": samples, "mel": spectrogram.log_mel(samples)} for case, samples in feeds.items()}


def encoder(arrays: original.Arrays, sizes: original.Sizes) -> Answers:
    feeds = {"segment": inputs.mels("segment", 2, inputs.SEGMENT), "short": inputs.mels("short", 1, 100)}
    return {case: {"mel": mel, **heard(arrays, sizes, original.encode(arrays, sizes, mel))}
            for case, mel in feeds.items()}


def heard(arrays: original.Arrays, sizes: original.Sizes, encoded: jax.Array) -> dict[str, jax.Array]:
    """The keys and values [batch, heads, frames, head_dim] that each layer's attention projects from encoded."""
    def projected(layer: int, part: str) -> jax.Array:
        x = encoded @ arrays[f"decoder/layers_{layer}/encoder_decoder_attention/{part}/kernel"]
        return jnp.swapaxes(x.reshape(*x.shape[:2], sizes["num_heads"], sizes["head_dim"]), 1, 2)

    return {f"cross_{part}s_{layer}": projected(layer, part)
            for part in ("key", "value") for layer in range(sizes["num_decoder_layers"])}


def decoder(arrays: original.Arrays, sizes: original.Sizes) -> Answers:
    """Teacher-forced: the cache before and after a token, and what follows it."""
    answers, step = {}, original.step(sizes)
    for case, (batch, frames, pasts) in QUESTIONS.items():
        encoded = original.encode(arrays, sizes, inputs.mels(f"taught {case}", batch, frames))
        cross = heard(arrays, sizes, encoded)
        taught = inputs.tokens(case, batch, max(pasts) + 1, sizes["vocab_size"])
        params, cache = original.parameters(arrays, "decoder"), original.empty_cache(sizes, batch, taught.shape[1])
        for number in range(taught.shape[1]):
            before = kept(cache, number)
            logits, cache = step(params, cache, jnp.asarray(taught[:, number]), encoded)
            if number in pasts:
                answers[f"{case} after {number}"] = {
                    "tokens": taught[:, number], **cross, "logits": logits,
                    **{f"past_{name}": array for name, array in before.items()}, **kept(cache, number + 1)}
    return answers


def kept(cache: original.Parameters, count: int) -> dict[str, jax.Array]:
    """The first keys and values [batch, heads, count, head_dim] of a cache, by the recipe's ports."""
    return {f"{part}s_{layer}": jnp.moveaxis(cache[f"layers_{layer}"]["self_attention"][f"cached_{part}"], -1, -2)[
        :, :, :count] for part in ("key", "value") for layer in range(len(cache) - 1)}


def transcriber(arrays: original.Arrays, sizes: original.Sizes) -> Answers:
    answers: Answers = {}
    for case, batch, frames, length in (("segment", 1, inputs.SEGMENT, 64), ("several", 6, 64, 96)):
        mel = inputs.mels(f"transcriber {case}", batch, frames)
        encoded = original.encode(arrays, sizes, mel)
        tokens = np.asarray(original.greedy(sizes, length, length)(original.parameters(arrays, "decoder"), encoded))
        over = np.cumsum(tokens == inputs.END, axis=1) - (tokens == inputs.END) > 0
        answers[case] = {"mel": mel, "length": np.array(length), "tokens": np.where(over, 0, tokens).astype(np.int64)}
    return answers
