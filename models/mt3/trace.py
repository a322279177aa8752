"""What upstream's network computes inside (JAX and Flax): every layer's output, by the names of its weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from flax.core import FrozenDict

from models.mt3 import inputs, original
from models.mt3.ask import QUESTIONS
from models.mt3.weights import read
from scripts.trace import Question

CALL = "/__call__"  # how Flax names what a layer returns


def trace(source: Path, recipe: dict[str, Any], question: Question) -> dict[str, np.ndarray]:
    """The layers of encoder and decoder; where one product of the graph is several layers', they are side by side.

    The spectrogram has no layers.
    """
    arrays, sizes = read(source, recipe["sources"]["custom"]["vocab_size"])
    if question.component not in ("encoder", "decoder"):
        return {}
    layers = {"encoder": of_encoder, "decoder": of_decoder}[question.component](arrays, sizes, question)
    found = {}
    for tensor, weights in question.tensors.items():
        names = [name for weight in weights for name in weight.split("+")]
        if names and all(name in layers for name in names):
            found[tensor] = np.concatenate([layers[name] for name in names], axis=-1)
    return found


def of_encoder(arrays: original.Arrays, sizes: original.Sizes, question: Question) -> dict[str, np.ndarray]:
    encoded, told = original.Encoder(FrozenDict(sizes)).apply(
        {"params": original.parameters(arrays, "encoder")}, question.feed["mel"], capture_intermediates=True,
        mutable=["intermediates"])
    heard = {name.removesuffix("/kernel"): np.asarray(encoded @ array) for name, array in arrays.items()
             if name.endswith(("encoder_decoder_attention/key/kernel", "encoder_decoder_attention/value/kernel"))}
    return by_layer("encoder", told) | heard


def of_decoder(arrays: original.Arrays, sizes: original.Sizes, question: Question) -> dict[str, np.ndarray]:
    """One step of the case that the reference was taught: the cache before it is the feed's."""
    case = question.case.rpartition(" after ")[0]
    batch, frames, pasts = QUESTIONS[case]
    encoded = original.encode(arrays, sizes, inputs.mels(f"taught {case}", batch, frames))
    before = question.feed["past_keys_0"].shape[2]

    def held(name: str, layer: int) -> jnp.ndarray:
        past = np.moveaxis(question.feed[f"past_{name}s_{layer}"], 2, -1)
        return jnp.pad(past, [(0, 0)] * 3 + [(0, max(pasts) + 1 - before)])

    cache = {"position_embedder_index": jnp.array(before), **{f"layers_{layer}": {"self_attention": {
        "cached_key": held("key", layer), "cached_value": held("value", layer), "cache_index": jnp.array(before)}}
        for layer in range(sizes["num_decoder_layers"])}}
    _, told = original.Decoder(FrozenDict(sizes), cached=True).apply(
        {"params": original.parameters(arrays, "decoder"), "cache": cache}, question.feed["tokens"][:, None], encoded,
        capture_intermediates=True, mutable=["cache", "intermediates"])
    return by_layer("decoder", told)


def by_layer(stack: str, told: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What each layer returned, by its name in the checkpoint."""
    kept = traverse_util.flatten_dict(told["intermediates"], sep="/")
    return {f"{stack}/{name.removesuffix(CALL)}": np.asarray(returned[0]) for name, returned in kept.items()
            if name.endswith(CALL) and not isinstance(returned[0], tuple)}
