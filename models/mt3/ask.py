"""What the original answers, for reference.npz (JAX and Flax): in float32, and in float64 with the same weights.

The network is upstream's (original.py); it hears and is taught one row of a batch at a time, so that few shapes are
compiled, which takes longer than what is asked. The spectrogram's original is TensorFlow, which this toolchain
doesn't hold: its formula answers in float64, and the tests hold both against what TensorFlow computed.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict

from models.mt3 import inputs, original, spectrogram
from models.mt3.weights import read
from scripts.job import progress
from scripts.reference import EXACT

# What the decoder is asked about: sequences, frames, and how many tokens come before.
QUESTIONS = {"many": (128, 16, (7,)), "one": (1, inputs.SEGMENT, (0, 5))}
Answers = dict[str, Mapping[str, np.ndarray]]


def ask(source: Path, out: Path, recipe: dict[str, Any]) -> None:
    """Write reference.npz. Raises Refusal on a bad checkpoint."""
    stored, sizes = read(source, recipe["sources"]["custom"]["vocab_size"])
    arrays = jax.tree.map(jnp.asarray, stored)
    answers: Answers = {}
    for name, answer in (("frontend", frontend), ("encoder", encoder), ("decoder", decoder),
                         ("transcriber", transcriber), ("taught", taught)):
        progress(f"asking the original: {name}")
        answers |= {f"{name}/{case}": ports for case, ports in answer(arrays, sizes).items()}
    np.savez(out / "reference.npz", **{f"{case}/{port}": np.asarray(array) for case, ports in answers.items()
                                       for port, array in ports.items()})


def frontend(arrays: original.Arrays, sizes: original.Sizes) -> Answers:
    feeds = {"notes": inputs.sounds("notes", 3, inputs.SEGMENT), "short": inputs.sounds("short", 1, 40)}
    return {case: {"samples": samples, "mel": spectrogram.log_mel(samples)} for case, samples in feeds.items()}


def exactly(answer: Callable[..., Any], *given: Any) -> Any:
    """What a function of arrays returns, in dictionaries or not, where all that is float32 of the given is float64."""
    def wide(x: Any) -> Any:
        return jnp.asarray(x, np.float64) if getattr(x, "dtype", None) == np.float32 else x

    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, answer(*jax.tree.map(wide, given)))


def both(answer: Callable[..., Mapping[str, np.ndarray]], *given: Any) -> Mapping[str, np.ndarray]:
    """What a function returns by port, in float32 and exactly."""
    return {**answer(*given), **{port + EXACT: array for port, array in exactly(answer, *given).items()}}


def encode(arrays: original.Arrays, sizes: original.Sizes, mel: np.ndarray) -> np.ndarray:
    """original.encode, a row at a time."""
    return by_row(original.Encoder, original.parameters(arrays, "encoder"), sizes, mel)


def decode(arrays: original.Arrays, sizes: original.Sizes, encoded: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """original.decode, a row at a time."""
    return by_row(original.Decoder, original.parameters(arrays, "decoder"), sizes, tokens, encoded)


def by_row(stack: type[original.Encoder] | type[original.Decoder], params: original.Parameters, sizes: original.Sizes,
           *batches: np.ndarray) -> np.ndarray:
    answer = original.compiled(stack, FrozenDict(sizes))
    return np.concatenate([answer({"params": params}, *(row[None] for row in rows)) for rows in zip(*batches)])


def encoder(arrays: original.Arrays, sizes: original.Sizes) -> Answers:
    """Also of the 0 that segments are filled up with: what enters the first norm is so small that epsilon counts."""
    feeds = {"segment": inputs.mels("segment", 2, inputs.SEGMENT), "short": inputs.mels("short", 1, 64),
             "quiet": np.zeros((1, 64, inputs.DEPTH), np.float32)}
    return {case: {"mel": mel, **both(encoder_of, arrays, sizes, mel)} for case, mel in feeds.items()}


def encoder_of(arrays: original.Arrays, sizes: original.Sizes, mel: np.ndarray) -> dict[str, np.ndarray]:
    return heard(arrays, sizes, encode(arrays, sizes, mel))


def heard(arrays: original.Arrays, sizes: original.Sizes, encoded: np.ndarray) -> dict[str, np.ndarray]:
    """The keys and values [batch, heads, frames, head_dim] that each layer's attention projects from encoded."""
    def projected(layer: int, part: str) -> np.ndarray:
        x = np.asarray(encoded @ arrays[f"decoder/layers_{layer}/encoder_decoder_attention/{part}/kernel"])
        return np.swapaxes(x.reshape(*x.shape[:2], sizes["num_heads"], sizes["head_dim"]), 1, 2)

    return {f"cross_{part}s_{layer}": projected(layer, part)
            for part in ("key", "value") for layer in range(sizes["num_decoder_layers"])}


def decoder(arrays: original.Arrays, sizes: original.Sizes) -> Answers:
    """Teacher-forced: the cache before and after a token, and what follows it. The whole batch at a time."""
    answers, step = {}, original.step(sizes)
    for case, (batch, frames, pasts) in QUESTIONS.items():
        encoded = original.encode(arrays, sizes, inputs.mels(f"taught {case}", batch, frames))
        cross = heard(arrays, sizes, encoded)
        taught = inputs.tokens(case, batch, max(pasts) + 1, sizes["vocab_size"])
        params, cache = original.parameters(arrays, "decoder"), original.empty_cache(sizes, batch, taught.shape[1])

        def answer(params: original.Parameters, cache: original.Parameters, tokens: np.ndarray,
                   encoded: jax.Array, count: int) -> Mapping[str, np.ndarray]:
            logits, after = step(params, cache, tokens, encoded)
            return {"logits": np.asarray(logits), **kept(after, count)}

        for number, tokens in enumerate(taught.T):
            if number in pasts:
                before = {f"past_{name}": array for name, array in kept(cache, number).items()}
                answers[f"{case} after {number}"] = {
                    "tokens": tokens, **cross, **before, **both(answer, params, cache, tokens, encoded, number + 1)}
            _, cache = step(params, cache, tokens, encoded)
    return answers


def kept(cache: original.Parameters, count: int) -> dict[str, np.ndarray]:
    """The first keys and values [batch, heads, count, head_dim] of a cache, by the recipe's ports."""
    def first(layer: int, part: str) -> np.ndarray:
        held = np.asarray(cache[f"layers_{layer}"]["self_attention"][f"cached_{part}"])
        return np.swapaxes(held, -1, -2)[:, :, :count]

    return {f"{part}s_{layer}": first(layer, part) for part in ("key", "value") for layer in range(len(cache) - 1)}


def transcriber(arrays: original.Arrays, sizes: original.Sizes) -> Answers:
    answers: Answers = {}
    for case, batch, frames, length in (("segment", 1, inputs.SEGMENT, 64), ("several", 6, 64, 96)):
        mel = inputs.mels(f"transcriber {case}", batch, frames)
        tokens = likeliest(arrays, sizes, encode(arrays, sizes, mel), length)
        answers[case] = {"mel": mel, "length": np.array(length), "tokens": ended(tokens),
                         "tokens" + EXACT: ended(exactly(settled, arrays, sizes, mel, tokens))}
    return answers


@functools.cache
def loop(sizes: FrozenDict, length: int) -> Callable[[original.Parameters, np.ndarray], jax.Array]:
    """original.greedy, compiled once for each shape."""
    return original.greedy(sizes, length, length)


def likeliest(arrays: original.Arrays, sizes: original.Sizes, encoded: np.ndarray, length: int) -> np.ndarray:
    """The original's greedy tokens int64 [batch, length], those after the end too."""
    tokens = loop(FrozenDict(sizes), length)(original.parameters(arrays, "decoder"), encoded)
    return np.asarray(tokens).astype(np.int64)


def settled(arrays: original.Arrays, sizes: original.Sizes, mel: np.ndarray, draft: np.ndarray) -> np.ndarray:
    """The original's greedy tokens int64 [batch, length], those after the end too, found from a draft of them.

    It is taught the draft; where each of its likeliest tokens is the draft's, it would by itself have come to where it
    is taught. Else what it holds likeliest is the next draft, of which one token more at least is right.
    """
    while True:
        tokens = taught_tokens(arrays, sizes, mel, after_start(draft)).argmax(2)
        if np.array_equal(tokens, draft):
            return tokens
        draft = tokens


def after_start(tokens: np.ndarray) -> np.ndarray:
    """What the decoder is fed to write these: 0, and all but the last."""
    return np.pad(tokens[:, :-1], ((0, 0), (1, 0)))


def after_end(tokens: np.ndarray) -> np.ndarray:
    """Which tokens come after a row's end, bool of their shape."""
    return np.cumsum(tokens == inputs.END, axis=1) - (tokens == inputs.END) > 0


def ended(tokens: np.ndarray) -> np.ndarray:
    """Greedy tokens with 0 after each row's end."""
    return np.where(after_end(tokens), 0, tokens)


def taught(arrays: original.Arrays, sizes: original.Sizes) -> Answers:
    """What the original holds likely along what it writes itself, of sound and of nothing in particular."""
    answers: Answers = {}
    for case, mel, length in (("notes", spectrogram.log_mel(inputs.sounds("taught", 8, inputs.SEGMENT)), 64),
                              ("noise", inputs.mels("taught noise", 6, 64), 96)):
        encoded = encode(arrays, sizes, mel)
        tokens = likeliest(arrays, sizes, encoded, length)
        given = after_start(tokens)
        exact = exactly(taught_tokens, arrays, sizes, mel, given)
        answers[case] = {"mel": mel, "tokens": given, "counted": (~after_end(tokens)[..., None]).astype(np.float32),
                         "logits": decode(arrays, sizes, encoded, given), "logits" + EXACT: exact}
    return answers


def taught_tokens(arrays: original.Arrays, sizes: original.Sizes, mel: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Logits [batch, length, vocabulary] after each of the given tokens."""
    return decode(arrays, sizes, encode(arrays, sizes, mel), given)
