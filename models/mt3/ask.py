"""What the original answers, for reference.npz (JAX and Flax): in float32, and in float64 with the same weights.

The network is upstream's (original.py). The spectrogram's original is TensorFlow, which this toolchain
doesn't hold: its formula answers in float64, and the tests hold both against what TensorFlow computed.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from models.mt3 import inputs, original, spectrogram
from models.mt3.weights import read
from scripts.job import progress
from scripts.reference import EXACT

# What the decoder is asked about: sequences, frames, and how many tokens come before.
QUESTIONS = {"many": (128, 16, (7,)), "one": (1, inputs.SEGMENT, (0, 5))}
Answers = dict[str, Mapping[str, np.ndarray]]


def ask(source: Path, out: Path, recipe: dict[str, Any]) -> None:
    """Write reference.npz. Raises Refusal on a bad checkpoint."""
    arrays, sizes = read(source, recipe["sources"]["custom"]["vocab_size"])
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
        return np.asarray(x, np.float64) if getattr(x, "dtype", None) == np.float32 else x

    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, answer(*jax.tree.map(wide, given)))


def both(answer: Callable[..., Mapping[str, jax.Array]], *given: Any) -> Mapping[str, jax.Array]:
    """What a function returns by port, in float32 and exactly."""
    return {**answer(*given), **{port + EXACT: array for port, array in exactly(answer, *given).items()}}


def encoder(arrays: original.Arrays, sizes: original.Sizes) -> Answers:
    feeds = {"segment": inputs.mels("segment", 2, inputs.SEGMENT), "short": inputs.mels("short", 1, 100)}
    return {case: {"mel": mel, **both(encoder_of, arrays, sizes, mel)} for case, mel in feeds.items()}


def encoder_of(arrays: original.Arrays, sizes: original.Sizes, mel: np.ndarray) -> dict[str, jax.Array]:
    return heard(arrays, sizes, original.encode(arrays, sizes, mel))


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

        def answer(params: original.Parameters, cache: original.Parameters, tokens: np.ndarray,
                   encoded: jax.Array, count: int) -> Mapping[str, jax.Array]:
            logits, after = step(params, cache, tokens, encoded)
            return {"logits": logits, **kept(after, count)}

        for number, tokens in enumerate(taught.T):
            if number in pasts:
                before = {f"past_{name}": array for name, array in kept(cache, number).items()}
                answers[f"{case} after {number}"] = {
                    "tokens": tokens, **cross, **before, **both(answer, params, cache, tokens, encoded, number + 1)}
            _, cache = step(params, cache, tokens, encoded)
    return answers


def kept(cache: original.Parameters, count: int) -> dict[str, jax.Array]:
    """The first keys and values [batch, heads, count, head_dim] of a cache, by the recipe's ports."""
    return {f"{part}s_{layer}": jnp.moveaxis(cache[f"layers_{layer}"]["self_attention"][f"cached_{part}"], -1, -2)[
        :, :, :count] for part in ("key", "value") for layer in range(len(cache) - 1)}


def transcriber(arrays: original.Arrays, sizes: original.Sizes) -> Answers:
    answers: Answers = {}
    for case, batch, frames, length in (("segment", 1, inputs.SEGMENT, 64), ("several", 6, 64, 96)):
        mel = inputs.mels(f"transcriber {case}", batch, frames)
        answers[case] = {"mel": mel, "length": np.array(length),
                         **both(lambda *given: {"tokens": ended(likeliest(*given))}, arrays, sizes, mel, length)}
    return answers


def likeliest(arrays: original.Arrays, sizes: original.Sizes, mel: np.ndarray, length: int) -> np.ndarray:
    """The original's greedy tokens int64 [batch, length], those after the end too."""
    encoded = original.encode(arrays, sizes, mel)
    tokens = original.greedy(sizes, length, length)(original.parameters(arrays, "decoder"), encoded)
    return np.asarray(tokens).astype(np.int64)


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
                              ("noise", inputs.mels("taught noise", 6, 64), 48)):
        tokens = likeliest(arrays, sizes, mel, length)
        given = np.pad(tokens[:, :-1], ((0, 0), (1, 0)))
        answers[case] = {"mel": mel, "tokens": given, "counted": (~after_end(tokens)[..., None]).astype(np.float32),
                         **both(lambda arrays, sizes, mel, given: {"logits": original.decode(
                             arrays, sizes, original.encode(arrays, sizes, mel), given)}, arrays, sizes, mel, given)}
    return answers
