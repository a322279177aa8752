"""Networks in Flax, as msgpack: `python -m tests.networks.flax FOLDER [NAME…]`. Their twins are in twins.py."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np

from tests.networks import cases
from tests.networks.cases import Arrays, Network, real, whole

NETWORKS: list[Network] = []


def network(shows: str, *told: Any, **named: Any) -> Callable[[Any], Any]:
    return cases.declare(NETWORKS, shows, *told, **named)


@network("a chain of dense layers with ReLUs between, as make new guesses it", {"x": real("batch", 16)})
class FlaxChain(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Dense(64)(x))
        return nn.Dense(8)(x)


@network("BatchNorm between dense layers, with its statistics", {"x": real("batch", 12)}, {"y": real("batch", 4)})
class FlaxNormed(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.BatchNorm(use_running_average=True)(nn.Dense(32)(x))
        return nn.Dense(4)(nn.relu(x))


@network("convolutions in groups, with strides and BatchNorm, on pictures of any size",
         {"x": real("batch", "height", "width", 3)}, {"y": real("batch", 5)},
         sizes={"height": (11, 20), "width": (8, 13)})
class FlaxConvolutions(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Conv(16, (3, 5), padding="SAME", use_bias=False)(x)))
        x = nn.avg_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Conv(24, (3, 3), strides=2, padding=1, feature_group_count=2)(x))
        return nn.Dense(5)(x.mean((1, 2)))


@network("causal 1-D convolutions with dilations and gates, residuals between", {"x": real("batch", "length", 8)},
         {"y": real("batch", "length", 6)})
class FlaxCausal(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Conv(16, (1,))(x)
        for dilation in (1, 2, 4):
            y = nn.Conv(32, (2,), kernel_dilation=dilation, padding="CAUSAL")(x)
            x = x + jnp.tanh(y[..., :16]) * nn.sigmoid(y[..., 16:])
        return nn.Dense(6)(x)


@network("embeddings, LayerNorm and GELU, the embedding's table as the last layer", {"x": whole(30, "batch", "length")},
         {"y": real("batch", "length", 31)})
class FlaxEmbedding(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        table = nn.Embed(31, 24)
        y = table(x)
        wide = nn.gelu(nn.Dense(48)(nn.LayerNorm()(y)), approximate=False)
        return table.attend(y + nn.Dense(24)(wide))


@network("attention with a causal mask, its projections as dense layers", {"x": real("batch", "length", 16)},
         {"y": real("batch", "length", 6)})
class FlaxAttention(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        query, key, value = (nn.Dense(16, name=name)(x) for name in ("query", "key", "value"))
        scores = query @ key.swapaxes(1, 2) / 4
        scores = jnp.where(jnp.tril(jnp.ones(scores.shape[1:], bool)), scores, -1e9)
        return nn.Dense(6, name="out")(x + nn.softmax(scores) @ value)


@network("a GRU over time, its twin's parts named as Flax has them, one of them `in`",
         {"x": real("batch", "length", 8)}, {"y": real("batch", "length", 24)}, then="flax_renamed",
         did="`load` gave them names that aren't Python's words")
class FlaxGru(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.RNN(nn.GRUCell(24, name="cell"))(x)


@network("the same, its parts named otherwise", {"x": real("batch", "length", 8)},
         {"y": real("batch", "length", 24)}, edits=[
             ("network.py", '*scope, leaf = name', '*scope, leaf = name.replace("cell/", "cell/gate_")')])
class FlaxRenamed(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.RNN(nn.GRUCell(24, name="cell"))(x)


@network("weights of bfloat16 in a training's state, a chain of dense layers", {"x": real("batch", 16)})
class FlaxState(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Dense(64)(x))
        return nn.Dense(8)(x)


@network("dropout that is left on", {"x": real("batch", 16)}, {"y": real("batch", 6)}, then="flax_quiet",
         did="the dropout became a deterministic one")
class FlaxDropout(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dropout(0.3, deterministic=False)(nn.relu(nn.Dense(32)(x)))
        return nn.Dense(6)(x)


@network("the same, deterministic", {"x": real("batch", 16)}, {"y": real("batch", 6)})
class FlaxQuiet(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dropout(0.3, deterministic=True)(nn.relu(nn.Dense(32)(x)))
        return nn.Dense(6)(x)


def save(built: Any, place: Path) -> Path:
    """Write the variables as their user does; of the one in bfloat16 a training's whole state."""
    module, variables = built
    if isinstance(module, FlaxState):
        half = jax.tree.map(lambda array: array.astype(jnp.bfloat16), variables["params"])
        variables = {"step": 7, "params": half, "opt_state": {"0": {"count": 7}}}
    (place / "weights.msgpack").write_bytes(flax.serialization.to_bytes(variables))
    return place / "weights.msgpack"


def answer(network: Network, built: Any, feed: Arrays) -> Arrays:
    module, variables = built
    noise = {"dropout": jax.random.key(1)}
    returned = module.apply(variables, *(feed[name] for name in network.inputs), rngs=noise)
    returned = returned if isinstance(returned, tuple) else (returned,)
    return {name: np.asarray(array) for name, array in zip(network.outputs or "y", returned, strict=True)}


def initialized(network: Network) -> Callable[[], tuple[nn.Module, Any]]:
    """The module with its variables; statistics, which are 0 and 1 before a training, are made up, and those that are
    saved in bfloat16 rounded to it."""
    def build() -> tuple[nn.Module, Any]:
        module = network.build()
        keys = {name: jax.random.key(cases.seed(network.name)) for name in ("params", "dropout")}
        variables = module.init(keys, *cases.feeds(network)[0].values())
        draw = np.random.default_rng(cases.seed(network.name))
        if isinstance(module, FlaxState):
            return module, jax.tree.map(lambda array: array.astype(jnp.bfloat16).astype(jnp.float32), variables)
        return module, {name: jax.tree.map(
            lambda array: array + draw.uniform(0.1, 0.9, array.shape).astype(array.dtype), part)
            if name == "batch_stats" else part for name, part in variables.items()}
    return build


def source(network: Network) -> dict[str, str]:
    """The texts of a network's module and of its twin; none where make new guesses them."""
    files = {"ask.py": "flax.py", "network.py": "twins.py"} if network.outputs else {}
    return {file: cases.text(Path(__file__).with_name(own), network.name) for file, own in files.items()}


if __name__ == "__main__":
    chosen = [one._replace(build=initialized(one)) for one in NETWORKS if one.name in sys.argv[2:] or not sys.argv[2:]]
    cases.write(chosen, Path(sys.argv[1]), save, answer, source)
