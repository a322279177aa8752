"""What VampNet's modules compute inside (PyTorch): what each returns, by the names of its weights."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models.vampnet.architecture import Norm
from models.vampnet.weights import codebooks, load, read
from scripts.trace import Question

ALIKE = nn.Conv1d, nn.Linear, Norm  # one node of the graph's returns what the module does


@torch.inference_mode()
def trace(source: Path, recipe: dict[str, Any], question: Question) -> dict[str, np.ndarray]:
    """The modules whose weights one node reads, in the graph as in upstream.

    The codec's graph multiplies what is ahead of an activation by its alpha, which is undone nowhere: such tensors are
    returned times it.
    """
    codec, sizes = read(source, "codec")
    part = question.component if question.component in ("coarse", "c2f") else "codec"
    arrays, sizes = (codec, sizes) if part == "codec" else read(source, part)
    network, returned = load(arrays, part, sizes), {}

    def record(name: str) -> None:
        def keep(module: nn.Module, _: Any, output: torch.Tensor) -> None:
            returned[name] = output.numpy()
        network.get_submodule(name).register_forward_hook(keep)

    for name, module in network.named_modules():
        if isinstance(module, ALIKE):
            record(name)
    if part != "codec":
        codes = torch.from_numpy(question.feed["codes"])
        network(codes, torch.from_numpy(codebooks(codec, sizes["n_codebooks"])))
    elif question.component == "encoder":
        network.encode(torch.from_numpy(question.feed["audio"]))
    else:
        network.decode(torch.from_numpy(question.feed["codes"]))
    found = {}
    for tensor, weights in question.tensors.items():
        name = module_of(weights, arrays)
        if name in returned:
            found[tensor] = returned[name] * ahead(name, arrays)
    return found


def module_of(weights: list[str], arrays: dict[str, np.ndarray]) -> str | None:
    """The module whose whole answer the node of these weights returns, if there is one."""
    names = {name.removesuffix(".bias") for name in weights}
    if len(names) != 1:
        return None
    [name] = names
    biased = f"{name}.bias" in arrays
    return name if biased == any(weight.endswith(".bias") for weight in weights) else None


def ahead(name: str, arrays: dict[str, np.ndarray]) -> np.ndarray | float:
    """The alpha of the activation behind a residual layer's first convolution, or 1."""
    block, _, number = name.rpartition(".")
    alone = f"{block}.0.alpha" in arrays and f"{block}.3.weight" in arrays
    return arrays[f"{block}.2.alpha"] if alone and number == "1" else 1.0
