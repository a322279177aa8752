"""MT3's arrays: which there must be, what sizes they tell, and a checkpoint's, every one accounted for.

An array of the network (mt3/network.py) has a name such as encoder/layers_0/mlp/wi_0/kernel and a shape of sizes:
kernels are [inputs, outputs]. How many heads share an attention's width no shape tells, so the width of a head
must be known: 64 in both of the released models.
"""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from models.mt3.inputs import HEAD_DIM
from scripts import source, t5x
from scripts.arrays import Shapes, flaws, listed
from scripts.job import Refusal

CONFIGURATIONS = {1536: "mt3", 1664: "ismir2021"}  # by vocabulary
Sizes = Mapping[str, int]  # by upstream's names: emb_dim, num_heads, head_dim, mlp_dim, num_encoder_layers, …


def read(checkpoint: Path, vocab_size: int | None = None, head_dim: int = HEAD_DIM
         ) -> tuple[dict[str, np.ndarray], Sizes]:
    """The arrays of a T5X checkpoint, float32 by name, and their sizes.

    bfloat16 is widened, which is exact. Raises Refusal where an array is missing, mis-shaped, damaged, not
    finite, or not the network's; and where the vocabulary isn't the one that is asked for.
    """
    folder = source.t5x_folder(checkpoint)
    leaves = t5x.leaves(folder)
    shapes = {name: leaf.shape for name, leaf in leaves.items()}
    sizes = sizes_of(shapes, head_dim)
    if found := flaws(shapes, expected(sizes)):
        raise Refusal(f"{folder}: expected the {len(expected(sizes))} arrays of MT3's network, found "
                      f"{'; '.join(found)}: give a checkpoint of this network with every array")
    if vocab_size not in (None, sizes["vocab_size"]):
        raise Refusal(f"{folder}: expected {called(vocab_size)}, found {called(sizes['vocab_size'])}: give another "
                      f"checkpoint, or make {CONFIGURATIONS.get(sizes['vocab_size'], 'its own model')} "
                      f"CHECKPOINT={checkpoint}")
    return {name: t5x.load(leaf).astype(np.float32, copy=False) for name, leaf in leaves.items()}, sizes


def called(vocab_size: int) -> str:
    """A vocabulary by its size and the configuration that has it."""
    owner = f"{CONFIGURATIONS[vocab_size]}'s" if vocab_size in CONFIGURATIONS else "a"
    return f"{owner} vocabulary of {vocab_size}"


def expected(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """The shape of every array of a network, by name: 189 at the released sizes."""
    values = {**sizes, "width": sizes["num_heads"] * sizes["head_dim"]}
    return {name: tuple(values[axis] for axis in axes)
            for name, axes in axes_of(sizes["num_encoder_layers"], sizes["num_decoder_layers"]).items()}


def axes_of(encoder_layers: int, decoder_layers: int) -> dict[str, tuple[str, ...]]:
    """What each array's axes count, by name; "width" is that of all heads of an attention together."""
    axes: dict[str, tuple[str, ...]] = {
        "encoder/continuous_inputs_projection/kernel": ("input_depth", "emb_dim"),
        "encoder/encoder_norm/scale": ("emb_dim",),
        "decoder/token_embedder/embedding": ("vocab_size", "emb_dim"),
        "decoder/decoder_norm/scale": ("emb_dim",),
        "decoder/logits_dense/kernel": ("emb_dim", "vocab_size"),
    }
    stacks = (("encoder", encoder_layers, {"attention": "attention"}),
              ("decoder", decoder_layers, {"self_attention": "self_attention",
                                           "encoder_decoder_attention": "cross_attention"}))
    for stack, layers, attentions in stacks:
        for layer in (f"{stack}/layers_{number}" for number in range(layers)):
            for attention, norm in attentions.items():
                axes[f"{layer}/pre_{norm}_layer_norm/scale"] = ("emb_dim",)
                axes |= {f"{layer}/{attention}/{part}/kernel": ("emb_dim", "width")
                         for part in ("query", "key", "value")}
                axes[f"{layer}/{attention}/out/kernel"] = ("width", "emb_dim")
            axes[f"{layer}/pre_mlp_layer_norm/scale"] = ("emb_dim",)
            axes |= {f"{layer}/mlp/{part}/kernel": ("emb_dim", "mlp_dim") for part in ("wi_0", "wi_1")}
            axes[f"{layer}/mlp/wo/kernel"] = ("mlp_dim", "emb_dim")
    return axes


def sizes_of(shapes: Shapes, head_dim: int) -> Sizes:
    """The sizes that most of the arrays agree on; flaws tells which don't.

    Raises Refusal where the arrays are of no such network, or their attentions not of whole heads.
    """
    layers = {stack: 1 + max((int(name.split("/")[1][len("layers_"):]) for name in shapes
                              if re.match(stack + r"/layers_\d{1,3}/", name)), default=-1)
              for stack in ("encoder", "decoder")}
    votes: dict[str, Counter[int]] = {}
    for name, axes in axes_of(layers["encoder"], layers["decoder"]).items():
        if len(shapes.get(name, ())) == len(axes):
            for axis, size in zip(axes, shapes[name], strict=True):
                votes.setdefault(axis, Counter())[size] += 1
    found = {axis: counter.most_common(1)[0][0] for axis, counter in votes.items()}
    lacking = {"emb_dim", "width", "mlp_dim", "vocab_size", "input_depth"} - set(found)
    if lacking or 0 in layers.values():
        raise Refusal(f"expected arrays of MT3's network, encoder/layers_0/… and decoder/layers_0/…, found "
                      f"{listed(sorted(shapes))}: give a checkpoint of MT3")
    width = found.pop("width")
    if width % head_dim:
        raise Refusal(f"expected attentions of whole heads, {head_dim} wide each, found attentions {width} wide: "
                      "give a checkpoint of this model")
    return {**found, "num_heads": width // head_dim, "head_dim": head_dim, "num_encoder_layers": layers["encoder"],
            "num_decoder_layers": layers["decoder"]}
