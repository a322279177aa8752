"""MT3's checkpoint becomes ONNX: frontend, encoder and a step of the decoder."""

from pathlib import Path
from typing import Any

import onnx

from models.mt3 import components
from models.mt3.inputs import HEADS, LAYERS
from models.mt3.weights import read
from scripts.job import Refusal, progress


def export(source: Path, out: Path, recipe: dict[str, Any]) -> None:
    """Write frontend.onnx, encoder.onnx and decoder.onnx. Raises Refusal on a bad checkpoint."""
    arrays, sizes = read(source, recipe["sources"]["custom"]["vocab_size"])
    found = tuple(sizes[name] for name in ("num_heads", "num_encoder_layers", "num_decoder_layers"))
    if found != (HEADS, LAYERS, LAYERS):
        raise Refusal(f"expected {HEADS} heads and {LAYERS} layers of encoder and decoder, which the recipe's ports "
                      f"are for, found {' and '.join(map(str, found))}: give a checkpoint of this model")
    progress(f"building the graphs of {len(arrays)} arrays")
    described, opset = recipe["components"], recipe["opset"]
    onnx.save(components.frontend(described["frontend"], opset), out / "frontend.onnx")
    onnx.save(components.encoder(arrays, described["encoder"], opset), out / "encoder.onnx")
    onnx.save(components.decoder(arrays, described["decoder"], opset), out / "decoder.onnx")
