"""VampNet's checkpoints become ONNX: the codec's two halves, and a step of each transformer."""

import gc
from pathlib import Path
from typing import Any

from models.vampnet import components
from models.vampnet.inputs import WRITTEN
from models.vampnet.weights import read
from scripts import graphs
from scripts.job import progress


def export(source: Path, out: Path, recipe: dict[str, Any]) -> None:
    """Write encoder, decoder, coarse and c2f, their weights beside them. Raises Refusal on a bad checkpoint."""
    described, opset = recipe["components"], recipe["opset"]
    codec, sizes = read(source, "codec")
    for name, build in (("encoder", components.encoder), ("decoder", components.decoder)):
        progress(f"building {name}")
        graphs.save(build(codec, sizes, described[name], opset), out / f"{name}.onnx", beside=True)
    for part in WRITTEN:
        progress(f"building {part}")
        arrays, sizes = read(source, part)
        graphs.save(components.transformer(arrays, codec, sizes, described[part], opset), out / f"{part}.onnx",
                    beside=True)
        del arrays
        gc.collect()  # graphs refer to themselves, and would hold a gigabyte each until Python looks
