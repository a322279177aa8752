"""VampNet's checkpoints: three files, every array accounted for, adapters and weight norms folded in.

A file is what audiotools' BaseModel.save writes: {"state_dict", "metadata": {"kwargs"}}, and its kwargs tell its sizes.
It is opened without running code of its own (weights_only), and only once it is known to name nothing foreign.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.serialization import get_unsafe_globals_in_checkpoint

from models.vampnet.architecture import Codec, Sizes, Transformer
from models.vampnet.inputs import COARSE, CODEBOOKS, HOP, LATENT, RATE, VOCABULARY
from scripts.arrays import Shapes, flaws, listed
from scripts.job import Refusal

LORA_RANK = 8  # LORA_R in vampnet/modules/transformer.py; an adapter counts 1 / LORA_RANK (loralib)
ADAPTED = ("w_qs.weight", "w_vs.weight", "fc.weight", "w_1.weight", "w_2.weight")
LORA = ("lora_A", "lora_B")
TRANSFORMER = ("n_codebooks", "n_conditioning_codebooks", "latent_dim", "vocab_size", "n_heads", "n_layers",
               "embedding_dim")
CODEC = ("n_codebooks", "codebook_size", "codebook_dim", "sample_rate", "encoder_dim", "encoder_rates", "decoder_dim",
         "decoder_rates")
FIXED = {  # what the recipe's ports are for, as the first sizes above have it
    "coarse": (COARSE, 0, LATENT, VOCABULARY),
    "c2f": (CODEBOOKS, COARSE, LATENT, VOCABULARY),
    "codec": (CODEBOOKS, VOCABULARY, LATENT, RATE),
}
MOST = 1 << 13  # of any size: what claims more is no file of this model
Arrays = dict[str, np.ndarray]


def read(folder: Path, part: str) -> tuple[Arrays, Sizes]:
    """The arrays of a part, float32 by upstream's names with adapters and weight norms folded in, and its sizes.

    Raises Refusal on a file that can't be read, is of another part, or names what isn't plain data; and on an array
    that is missing, unknown, mis-shaped or not finite.
    """
    path = folder / f"{part}.pth"
    arrays, sizes = opened(path, part)
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    adapted = any(name.endswith(LORA) for name in shapes)
    network = built(part, sizes)
    if found := flaws(shapes, expected(network, adapted)):
        raise Refusal(f"{path}: expected the arrays of a {part} of its own sizes, found {'; '.join(found)}: give the "
                      "file as its authors' code wrote it")
    for name, array in arrays.items():
        if not array.is_floating_point() or not array.isfinite().all():
            raise Refusal(f"{path}: {name}: expected finite numbers, found others: the weights are damaged, fetch them "
                          "again or train them again")
    wide = {name: array.float().numpy() for name, array in arrays.items()}
    return {name: folded(name, wide) for name in network.state_dict()}, sizes


def opened(path: Path, part: str) -> tuple[dict[str, torch.Tensor], Sizes]:
    """A file's arrays as they are stored, and the sizes that it tells."""
    try:
        foreign = get_unsafe_globals_in_checkpoint(path)
        if foreign:
            raise Refusal(f"{path}: expected arrays and plain values, found {listed(sorted(foreign))}, which "
                          "opening it would run: give a file that holds weights alone")
        told = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        state, kwargs = told["state_dict"], dict(told["metadata"]["kwargs"])
        arrays = {name: array for name, array in state.items() if isinstance(array, torch.Tensor)}
    except (pickle.UnpicklingError, RuntimeError, ValueError, LookupError, TypeError, AttributeError,
            EOFError) as error:
        raise Refusal(f"{path}: expected {{state_dict, metadata: {{kwargs}}}} as torch.save writes it, found a file "
                      "that can't be read so: fetch it again") from error
    if (kind := kind_of(kwargs)) != part:
        raise Refusal(f"{path}: expected VampNet's {part}, found {kind or 'the sizes of no part of it'}: put each file "
                      "in its own place")
    names = CODEC if part == "codec" else TRANSFORMER
    sizes = {name: kwargs.get(name) for name in names}
    if wrong := [name for name in names[len(FIXED[part]):] if not fits(sizes[name], name.endswith("_rates"))]:
        raise Refusal(f"{path}: expected a size of each kind in its metadata, found {wrong[0]} = {sizes[wrong[0]]!r}: "
                      "fetch it again")
    if part != "codec" and sizes["embedding_dim"] % sizes["n_heads"]:
        raise Refusal(f"{path}: expected a width that its heads share evenly, found {sizes['embedding_dim']} and "
                      f"{sizes['n_heads']} heads: fetch it again")
    if part == "codec" and {np.prod(sizes["encoder_rates"]), np.prod(sizes["decoder_rates"])} != {HOP}:
        raise Refusal(f"{path}: expected a codec of {HOP} samples a frame, found rates of {sizes['encoder_rates']} and "
                      f"{sizes['decoder_rates']}: give the codec that VampNet was trained with")
    return arrays, sizes


def kind_of(kwargs: Mapping[str, Any]) -> str | None:
    """The part whose fixed sizes these are."""
    for part, fixed in FIXED.items():
        if tuple(kwargs.get(name) for name in (CODEC if part == "codec" else TRANSFORMER)[:len(fixed)]) == fixed:
            return part
    return None


def fits(size: Any, several: bool) -> bool:
    """Whether it is a size, or a list of them."""
    if several:
        return isinstance(size, (list, tuple)) and 0 < len(size) <= 8 and all(fits(one, False) for one in size)
    return type(size) is int and 0 < size <= MOST


def built(part: str, sizes: Sizes) -> nn.Module:
    """The part's network, its arrays not yet there."""
    with torch.device("meta"):
        return Codec(sizes) if part == "codec" else Transformer(sizes)


def load(arrays: Arrays, part: str, sizes: Sizes) -> nn.Module:
    """The part's network with these arrays, ready to run."""
    network = built(part, sizes)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def expected(network: nn.Module, adapted: bool) -> Shapes:
    """The shape of every array of a file, by name: weight norms are two, adapters two more."""
    normed = {f"{name}.weight" for name, module in network.named_modules()
              if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)) and name != "embedding.out_proj"}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, array in network.state_dict().items():
        shape, place = tuple(array.shape), name.removesuffix("weight")
        if name in normed:
            shapes |= {f"{name}_g": (shape[0], 1, 1), f"{name}_v": shape}
        else:
            shapes[name] = shape
        if adapted and name.endswith(ADAPTED):
            shapes |= {f"{place}lora_A": (LORA_RANK, shape[1]), f"{place}lora_B": (shape[0], LORA_RANK)}
    return shapes


def folded(name: str, arrays: Arrays) -> np.ndarray:
    """The array of a network, of those that stand for it in a file; the same bits on every CPU.

    A weight norm is g v / |v|, the norm over all axes but the first. An adapter adds B A / LORA_RANK (loralib's
    Linear.eval). Products of two float32 are exact in float64, and NumPy adds them in one order wherever it runs.
    """
    place = name.removesuffix("weight")
    if f"{name}_v" in arrays:
        direction = arrays[f"{name}_v"].astype(np.float64)
        length = np.sqrt(np.square(direction).reshape(len(direction), -1).sum(1)).reshape(-1, 1, 1)
        return (direction * (arrays[f"{name}_g"] / length)).astype(np.float32)
    if f"{place}lora_A" in arrays:
        weight = arrays[name].astype(np.float64)
        for down, up in zip(arrays[f"{place}lora_A"].astype(np.float64), arrays[f"{place}lora_B"].T):
            weight += up[:, None] * (down / LORA_RANK)
        return weight.astype(np.float32)
    return arrays[name]


def codebooks(codec: Arrays, count: int) -> np.ndarray:
    """The vectors of the codec's first codebooks, float32 [count, vocabulary, latent]."""
    return np.stack([codec[f"quantizer.quantizers.{number}.codebook.weight"] for number in range(count)])
