"""The original in the bench: upstream's network in JAX as it is written, and without what it computes in vain."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict

from models.mt3 import inputs
from models.mt3.original import EPSILON, Encoder, Parameters, Sizes, beam, greedy, parameters, sinusoids
from models.mt3.weights import read


def original(source: Path, threads: int) -> dict[str, Callable[[], Any]]:
    """A call for each work of inputs.bench, by work and contestant.

    Of a given number all tokens are decoded, come an end or not; sound is written down as upstream does, by its beam.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])  # JAX asks nothing else
    arrays, sizes = read(source)
    listen = jax.jit(Encoder(FrozenDict(sizes)).apply)
    encoder, decoder = ({"params": parameters(arrays, "encoder")}, parameters(arrays, "decoder"))

    def call(mel: np.ndarray, decode: Callable[..., jax.Array] | None) -> Callable[[], Any]:
        def run() -> Any:
            encoded = listen(encoder, mel)
            return jax.block_until_ready(decode(decoder, encoded) if decode else encoded)
        return run

    calls = {}
    for work, feed in inputs.bench().items():
        if work == "encoder":
            calls[f"{work}/original"] = call(feed["mel"], None)
        elif work in inputs.TRAINED:
            calls[f"{work}/original"] = call(feed["mel"], beam(sizes, inputs.MOST))
        elif work.startswith("transcriber"):
            length = int(feed["length"])
            calls[f"{work}/original"] = call(feed["mel"], greedy(sizes, length, inputs.MOST))
            calls[f"{work}/lean JAX"] = call(feed["mel"], lean(sizes, length))
    return calls


def lean(sizes: Sizes, length: int) -> Callable[[Parameters, jax.Array], jax.Array]:
    """The same tokens as original.greedy with less work: what stays the same projected once, embeddings looked up, and
    a cache of no more than is needed, written in place.
    """
    heads, head_dim, layers = sizes["num_heads"], sizes["head_dim"], range(sizes["num_decoder_layers"])
    positions = sinusoids(sizes["emb_dim"])

    def norm(x: jax.Array, params: Parameters) -> jax.Array:
        return x * jax.lax.rsqrt(jnp.mean(jax.lax.square(x), axis=-1, keepdims=True) + EPSILON) * params["scale"]

    def split(x: jax.Array, params: Parameters) -> jax.Array:
        """[batch, heads, time, head_dim] of x [batch, time, width]."""
        projected = x @ params["kernel"]
        return projected.reshape(*x.shape[:2], heads, head_dim).swapaxes(1, 2)

    def attend(x: jax.Array, params: Parameters, key: jax.Array, value: jax.Array,
               allowed: jax.Array | bool = True) -> jax.Array:
        scores = split(x, params["query"]) @ key.swapaxes(2, 3) + jnp.where(allowed, 0.0, -1e10)
        merged = (jax.nn.softmax(scores) @ value).swapaxes(1, 2).reshape(*x.shape[:2], heads * head_dim)
        return merged @ params["out"]["kernel"]

    @jax.jit
    def run(params: Parameters, encoded: jax.Array) -> jax.Array:
        heard = [[split(encoded, params[f"layers_{layer}"]["encoder_decoder_attention"][part])
                  for part in ("key", "value")] for layer in layers]

        def write(state: tuple[Any, jax.Array], index: jax.Array) -> tuple[tuple[Any, jax.Array], jax.Array]:
            cache, token = state
            x = (params["token_embedder"]["embedding"][token] + positions[index])[:, None]
            kept = []
            for layer, past, sound in zip(layers, cache, heard):
                own = params[f"layers_{layer}"]
                normed = norm(x, own["pre_self_attention_layer_norm"])
                kept.append([jax.lax.dynamic_update_slice_in_dim(
                    before, split(normed, own["self_attention"][part]), index, 2)
                    for part, before in zip(("key", "value"), past)])
                x = x + attend(normed, own["self_attention"], *kept[-1], jnp.arange(length) <= index)
                x = x + attend(norm(x, own["pre_cross_attention_layer_norm"]), own["encoder_decoder_attention"], *sound)
                normed, mlp = norm(x, own["pre_mlp_layer_norm"]), own["mlp"]
                hidden = jax.nn.gelu(normed @ mlp["wi_0"]["kernel"]) * (normed @ mlp["wi_1"]["kernel"])
                x = x + hidden @ mlp["wo"]["kernel"]
            logits = norm(x, params["decoder_norm"]) @ params["logits_dense"]["kernel"]
            token = jnp.argmax(logits[:, 0], axis=-1)
            return (kept, token), token

        batch = encoded.shape[0]
        empty = jnp.zeros((batch, heads, length, head_dim))
        first = ([[empty, empty] for _ in layers], jnp.zeros(batch, jnp.int32))
        return jax.lax.scan(write, first, jnp.arange(length))[1].T

    return run
