"""The original in the bench: upstream's modules in PyTorch, as they are written."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from models.vampnet import inputs, sampling
from models.vampnet.ask import stepping
from models.vampnet.weights import load, read


def original(source: Path, threads: int) -> dict[str, Callable[[], Any]]:
    """A call for each work of inputs.bench, by work and contestant; a network is loaded when it is called."""
    torch.set_num_threads(threads)

    @functools.cache
    def codec() -> torch.nn.Module:
        arrays, sizes = read(source, "codec")
        return load(arrays, "codec", sizes)

    @functools.cache
    def step(part: str) -> sampling.Step:
        return stepping(source, part, read(source, "codec")[0])

    def call(work: str, feed: dict[str, Any]) -> Callable[[], Any]:
        component = work.split(",")[0]
        part = component.removesuffix("-sampler")

        def run() -> Any:
            if component in ("encoder", "decoder"):
                port = torch.from_numpy(feed["audio" if component == "encoder" else "codes"])
                return codec().encode(port) if component == "encoder" else codec().decode(port)
            if component == part:
                return step(part)(feed["codes"])
            return sampling.generate(step(part), feed["codes"], feed["mask"], feed["uniforms"], sampling.Controls())
        return torch.inference_mode()(run)

    return {f"{work}/original": call(work, feed) for work, feed in inputs.bench().items()}
