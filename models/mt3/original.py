"""MT3's network in JAX and Flax, operation by operation as mt3/network.py and mt3/layers.py have it.

Upstream's own package can't be installed any more: what it computes is recorded as data, and this
network is held against it (tests/models/mt3). As there, decoding writes its cache by a product with a
one-hot row, embeds by a product, and projects the encoder's output anew at every step.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, traverse_util
from flax.core import FrozenDict

from models.mt3.inputs import END

LONGEST = 2048  # positions that upstream has
EPSILON = 1e-6
ALPHA = 0.6  # how much beam search favours long sequences
Arrays = Mapping[str, np.ndarray]  # by their slash-joined names
Parameters = Mapping[str, Any]  # the same as a tree
Sizes = Mapping[str, int]  # by upstream's names: emb_dim, num_heads, head_dim, mlp_dim, num_encoder_layers, …


def sinusoids(width: int) -> jax.Array:
    """Fixed positions, float32 [LONGEST, width]: sines, then cosines."""
    angles = np.arange(LONGEST)[:, None] * np.exp(np.arange(width // 2) * (-np.log(10000.0) / (width // 2 - 1)))
    return jnp.array(np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32))


def dense(features: int, name: str) -> linen.Dense:
    return linen.Dense(features, use_bias=False, name=name)


class Norm(linen.Module):
    """RMS norm over the last axis."""

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", linen.initializers.ones, (x.shape[-1],))
        return x * jax.lax.rsqrt(jnp.mean(jax.lax.square(x), axis=-1, keepdims=True) + EPSILON) * scale


class Attention(linen.Module):
    """Attention without 1/sqrt(d): queries of x to keys and values of seen, [batch, time, width]."""

    heads: int
    head_dim: int
    cached: bool = False  # whether x is one token, and the keys and values before it are kept

    @linen.compact
    def __call__(self, x: jax.Array, seen: jax.Array, allowed: jax.Array | None = None) -> jax.Array:
        query, key, value = (
            dense(self.heads * self.head_dim, name)(of).reshape(*of.shape[:2], self.heads, self.head_dim)
            for name, of in (("query", x), ("key", seen), ("value", seen)))
        if self.cached:
            keys, values = self.variable("cache", "cached_key"), self.variable("cache", "cached_value")
            index = self.variable("cache", "cache_index")
            here = jax.nn.one_hot(index.value, keys.value.shape[-1])
            keys.value = keys.value + jnp.moveaxis(key, -3, -1) * here
            values.value = values.value + jnp.moveaxis(value, -3, -1) * here
            key, value = jnp.moveaxis(keys.value, -1, -3), jnp.moveaxis(values.value, -1, -3)
            allowed = (jnp.arange(keys.value.shape[-1]) <= index.value)[None, None, None]
            index.value = index.value + 1
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key)
        if allowed is not None:
            scores = scores + jnp.where(allowed, 0.0, -1e10)
        attended = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), value)
        return dense(x.shape[-1], "out")(attended.reshape(*x.shape[:2], -1))


class FeedForward(linen.Module):
    """gelu(x wi_0) * (x wi_1) wo, the gelu in its tanh form."""

    hidden: int

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return dense(x.shape[-1], "wo")(linen.gelu(dense(self.hidden, "wi_0")(x)) * dense(self.hidden, "wi_1")(x))


class Layer(linen.Module):
    """One layer of a stack: attention to x itself, to what the encoder made of the sound if given, and feed-forward."""

    sizes: Sizes
    cached: bool = False

    @linen.compact
    def __call__(self, x: jax.Array, encoded: jax.Array | None = None, allowed: jax.Array | None = None) -> jax.Array:
        heads, head_dim, hidden = (self.sizes[name] for name in ("num_heads", "head_dim", "mlp_dim"))
        own = "attention" if encoded is None else "self_attention"
        normed = Norm(name=f"pre_{own}_layer_norm")(x)
        x = x + Attention(heads, head_dim, self.cached, name=own)(normed, normed, allowed)
        if encoded is not None:
            normed = Norm(name="pre_cross_attention_layer_norm")(x)
            x = x + Attention(heads, head_dim, name="encoder_decoder_attention")(normed, encoded)
        return x + FeedForward(hidden, name="mlp")(Norm(name="pre_mlp_layer_norm")(x))


class Encoder(linen.Module):
    """mel [batch, frames, 512] → [batch, frames, emb_dim]"""

    sizes: Sizes

    @linen.compact
    def __call__(self, mel: jax.Array) -> jax.Array:
        x = dense(self.sizes["emb_dim"], "continuous_inputs_projection")(mel)
        x = x + sinusoids(self.sizes["emb_dim"])[:mel.shape[1]]
        for number in range(self.sizes["num_encoder_layers"]):
            x = Layer(self.sizes, name=f"layers_{number}")(x)
        return Norm(name="encoder_norm")(x)


class Embedding(linen.Module):
    """tokens [batch, time] → [batch, time, width], as a product with one-hot rows."""

    vocabulary: int
    width: int

    @linen.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        table = self.param("embedding", linen.initializers.normal(1.0), (self.vocabulary, self.width))
        return jax.nn.one_hot(tokens, self.vocabulary) @ table


class Decoder(linen.Module):
    """tokens [batch, time] after their positions, and encoded → logits [batch, time, vocabulary].

    cached: one token a call, those before it are in the collection "cache".
    """

    sizes: Sizes
    cached: bool = False

    @linen.compact
    def __call__(self, tokens: jax.Array, encoded: jax.Array) -> jax.Array:
        positions = sinusoids(self.sizes["emb_dim"])
        if self.cached:
            index = self.variable("cache", "position_embedder_index")
            here = jax.lax.dynamic_slice_in_dim(positions, index.value, 1)
            index.value = index.value + 1
            allowed = None
        else:
            here = positions[:tokens.shape[1]]
            allowed = jnp.tril(jnp.ones((tokens.shape[1],) * 2, bool))[None, None]
        x = Embedding(self.sizes["vocab_size"], self.sizes["emb_dim"], name="token_embedder")(tokens) + here
        for number in range(self.sizes["num_decoder_layers"]):
            x = Layer(self.sizes, self.cached, name=f"layers_{number}")(x, encoded, allowed)
        return dense(self.sizes["vocab_size"], "logits_dense")(Norm(name="decoder_norm")(x))


def parameters(arrays: Arrays, stack: str) -> Parameters:
    """The Flax tree of a stack, encoder or decoder,."""
    return traverse_util.unflatten_dict(
        {tuple(name.split("/")[1:]): jnp.asarray(array) for name, array in arrays.items() if name.startswith(stack)})


@functools.cache
def compiled(stack: type[Encoder] | type[Decoder], sizes: FrozenDict) -> Callable[..., jax.Array]:
    """A stack as a function of its parameters and inputs, compiled once for each shape."""
    return jax.jit(stack(sizes).apply)


def encode(arrays: Arrays, sizes: Sizes, mel: np.ndarray) -> jax.Array:
    """encoded float32 [batch, frames, emb_dim] of mel [batch, frames, 512]."""
    return compiled(Encoder, FrozenDict(sizes))({"params": parameters(arrays, "encoder")}, mel)


def decode(arrays: Arrays, sizes: Sizes, encoded: jax.Array, tokens: np.ndarray) -> jax.Array:
    """logits float32 [batch, time, vocabulary] after each of the tokens [batch, time]."""
    return compiled(Decoder, FrozenDict(sizes))({"params": parameters(arrays, "decoder")}, tokens, encoded)


def empty_cache(sizes: Sizes, batch: int, length: int) -> Parameters:
    """The collection "cache" before the first of `length` tokens."""
    shape = (batch, sizes["num_heads"], sizes["head_dim"], length)
    layer = {"cached_key": jnp.zeros(shape), "cached_value": jnp.zeros(shape), "cache_index": jnp.array(0)}
    return {"position_embedder_index": jnp.array(0),
            **{f"layers_{number}": {"self_attention": layer} for number in range(sizes["num_decoder_layers"])}}


def step(sizes: Sizes) -> Callable[[Parameters, Parameters, jax.Array, jax.Array], tuple[jax.Array, Parameters]]:
    """A function of the decoder's parameters, cache, tokens [batch] and encoded → logits [batch, vocabulary] and the
    next step's cache.
    """
    decoder = Decoder(FrozenDict(sizes), cached=True)

    @jax.jit
    def run(params: Parameters, cache: Parameters, tokens: jax.Array,
            encoded: jax.Array) -> tuple[jax.Array, Parameters]:
        logits, changed = decoder.apply({"params": params, "cache": cache}, tokens[:, None], encoded, mutable=["cache"])
        return logits[:, 0], changed["cache"]

    return run


def greedy(sizes: Sizes, length: int, held: int) -> Callable[[Parameters, jax.Array], jax.Array]:
    """A function of the decoder's parameters and encoded → the likeliest tokens int32 [batch, length].

    Its cache has room for `held` tokens. Nothing stops it: what comes after 1, the end, means nothing.
    """
    one = step(sizes)

    @jax.jit
    def run(params: Parameters, encoded: jax.Array) -> jax.Array:
        def write(state: tuple[Parameters, jax.Array], _: None) -> tuple[tuple[Parameters, jax.Array], jax.Array]:
            logits, cache = one(params, *state, encoded)
            token = jnp.argmax(logits, axis=-1).astype(jnp.int32)
            return (cache, token), token

        batch = encoded.shape[0]
        first = (empty_cache(sizes, batch, held), jnp.zeros(batch, jnp.int32))
        return jax.lax.scan(write, first, None, length)[1].T

    return run


def beam(sizes: Sizes, length: int) -> Callable[[Parameters, jax.Array], tuple[jax.Array, jax.Array]]:
    """How upstream decodes: a function of the decoder's parameters and encoded → tokens int32 [batch, length] and
    scores float32 [batch].

    beam_search in t5x/decoding.py with one beam (num_decodes 1, alpha 0.6), as the gin files of MT3 have it:
    each step ends the best hypothesis if the end is among its two best tokens, and goes on with the better
    other one; the best ended hypothesis wins, its log-probability divided by ((5 + length) / 6) ** 0.6.
    """
    one = step(sizes)
    never = -1.0e7

    def penalty(count: jax.Array | int) -> jax.Array:
        return jnp.power((5.0 + count) / 6.0, ALPHA)

    @jax.jit
    def run(params: Parameters, encoded: jax.Array) -> tuple[jax.Array, jax.Array]:
        batch = encoded.shape[0]

        def going(state: Mapping[str, Any]) -> jax.Array:
            hopeless = jnp.where(state["ended"], state["score"], never) > state["live_score"] / penalty(length + 1)
            return (state["index"] < length) & ~hopeless.all()

        def write(state: Mapping[str, Any]) -> Mapping[str, Any]:
            index, rows = state["index"], jnp.arange(batch)
            token = jax.lax.dynamic_index_in_dim(state["live"], index, 1, keepdims=False)
            logits, cache = one(params, state["cache"], token, encoded)
            scores, tokens = jax.lax.top_k(jax.nn.log_softmax(logits) + state["live_score"][:, None], 2)
            ends = tokens == END
            on = jnp.argmax(scores + jnp.where(ends, never, 0.0), axis=1)
            sequences = jnp.repeat(state["live"][:, None], 2, axis=1).at[:, :, index + 1].set(tokens)
            ended_score = jnp.where(ends, scores / penalty(index + 1), scores / penalty(index + 1) + never)
            best = jnp.argmax(ended_score, axis=1)
            better = ended_score[rows, best] > state["score"]
            kept = jnp.ones((batch, 1, 1), jnp.int32)  # of each row's one beam: upstream's cache_gather_beams
            return {
                "index": index + 1,
                "cache": jax.tree.map(lambda x: x if x.ndim == 0 else jnp.einsum("beo,bo...->be...", kept, x[:, None])
                                      .astype(x.dtype)[:, 0], cache),
                "live": sequences[rows, on],
                "live_score": scores[rows, on] + jnp.where(ends[rows, on], never, 0.0),
                "ended": jnp.where(better, ends[rows, best], state["ended"]),
                "finished": jnp.where(better[:, None], sequences[rows, best], state["finished"]),
                "score": jnp.where(better, ended_score[rows, best], state["score"]),
            }

        nothing = jnp.zeros((batch, length + 1), jnp.int32)
        last = jax.lax.while_loop(going, write, {
            "index": jnp.array(0), "cache": empty_cache(sizes, batch, length), "live": nothing,
            "live_score": jnp.zeros(batch), "ended": jnp.zeros(batch, bool), "finished": nothing,
            "score": jnp.full(batch, never)})
        tokens = jnp.where(last["ended"][:, None], last["finished"], last["live"])
        return tokens[:, 1:], jnp.where(last["ended"], last["score"], last["live_score"])

    return run
