"""PyTorch in the bench: the network that make convert writes weights for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from models.mt3 import inputs
from models.mt3.port import load
from models.mt3.weights import read


def rivals(source: Path, threads: int) -> dict[str, Callable[[], Any]]:
    """A call for each work of inputs.bench, by work and contestant."""
    torch.set_num_threads(threads)
    network = load(*read(source))
    calls = {}
    for work, feed in inputs.bench().items():
        mel = torch.from_numpy(feed["mel"]) if "mel" in feed else None
        if work == "encoder":
            calls[f"{work}/PyTorch"] = lambda mel=mel: network.encode(mel)
        elif work.startswith("transcriber") and work not in inputs.TRAINED:
            calls[f"{work}/PyTorch"] = lambda mel=mel, length=int(feed["length"]): network.generate(mel, length)
    return calls
