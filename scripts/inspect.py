"""Prints what a T5X checkpoint holds and which network it is of: `make inspect T5X=path`."""

import math
import sys
from collections.abc import Mapping
from pathlib import Path

from models.mt3 import weights
from models.mt3.inputs import HEAD_DIM
from scripts import command, source, t5x
from scripts.arrays import Shapes, flaws
from scripts.job import Refusal


def totals(leaves: Mapping[str, t5x.Leaf]) -> str:
    """How much the arrays are together."""
    parameters = [math.prod(leaf.shape) for leaf in leaves.values()]
    size = sum(count * leaf.dtype.itemsize for count, leaf in zip(parameters, leaves.values(), strict=True))
    inline = sum(leaf.folder is None for leaf in leaves.values())
    return (f"{len(leaves)} arrays, {inline} of them in the file checkpoint: {sum(parameters):,} parameters, "
            f"{size:,} bytes")


def network(shapes: Shapes) -> list[str]:
    """The network that the shapes tell of, and what contradicts it; a line each."""
    try:
        sizes = weights.sizes_of(shapes, HEAD_DIM)
        heads = f"{sizes['num_heads']} heads, if they are {HEAD_DIM} wide as MT3's: no shape tells"
    except Refusal:
        try:
            sizes = weights.sizes_of(shapes, 1)
        except Refusal as refusal:
            return [f"no network of MT3's: {refusal}"]
        heads = f"heads cannot be seen: attentions are not a multiple of {HEAD_DIM} wide"
    owner = weights.CONFIGURATIONS.get(sizes["vocab_size"], "neither mt3 nor ismir2021")
    return [f"layers       {sizes['num_encoder_layers']} of the encoder, {sizes['num_decoder_layers']} of the decoder",
            f"width        {sizes['emb_dim']}, of mel bands {sizes['input_depth']}, of the MLP {sizes['mlp_dim']}",
            f"attention    {sizes['num_heads'] * sizes['head_dim']} wide; {heads}",
            f"vocabulary   {sizes['vocab_size']}: {owner}",
            *(f"contradicted by {flaw}" for flaw in flaws(shapes, weights.expected(sizes)))]


def main() -> int:
    parser = command.Parser(description="What a T5X checkpoint holds.")
    parser.add_argument("t5x", type=lambda path: Path(path).expanduser().resolve(), metavar="T5X")
    leaves = t5x.leaves(source.t5x_folder(parser.parse_args().t5x))
    command.table([("array", "shape", "dtype", "stored"), *(
        (name, "×".join(map(str, leaf.shape)), leaf.dtype.name, "folder" if leaf.folder else "inline")
        for name, leaf in leaves.items())])
    print("", totals(leaves), *network({name: leaf.shape for name, leaf in leaves.items()}), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
