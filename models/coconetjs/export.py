"""The arrays of Coconet's edition for browsers become denoiser.onnx, without any framework's graph in between."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnxscript import OpBuilder

from models.coconetjs.architecture import EPSILON, Layer, told
from models.coconetjs.weights import read, unread
from scripts import graphs
from scripts.job import progress


def export(source: Path, out: Path, recipe: dict[str, Any]) -> None:
    """Write denoiser.onnx and its architecture. Raises Refusal on bad weights."""
    arrays, layers = read(source)
    for name in unread(source, layers):
        progress(f"passing over {name}, as magenta-js does: there it isn't added")
    progress(f"building the graph of {len(layers)} layers")
    (out / "metadata.json").write_text(json.dumps({"architecture": told(layers)}) + "\n")

    def fill(op: OpBuilder, pianorolls: ir.Value, masks: ir.Value) -> tuple[ir.Value, ir.Value]:
        known = op.Sub(1.0, masks)
        x = op.Transpose(op.Concat(op.Mul(pianorolls, known), known, axis=3), perm=[0, 3, 1, 2])
        for layer in layers:
            if layer.index % 2:
                kept = x
            x = convolution(op, x, layer, arrays)
            if layer is layers[-1]:
                break
            if layer.index % 2 == 0 and layer.index:
                x = op.Add(x, kept)
            x = op.Relu(x)
        logits = op.Transpose(x, perm=[0, 2, 3, 1])
        return logits, op.Softmax(logits, axis=2)

    onnx.save(graphs.build(recipe["components"]["denoiser"], recipe["opset"], fill), out / "denoiser.onnx")


def convolution(op: OpBuilder, x: ir.Value, layer: Layer, arrays: Mapping[str, np.ndarray]) -> ir.Value:
    """A layer's two convolutions of x [batch, inputs, time, pitch], batch normalization folded into the second."""
    depthwise = arrays[f"{layer.name}/SeparableConv2d/depthwise_weights"].transpose(2, 3, 0, 1)
    total = [(layer.kernel - 1) * rate for rate in layer.dilation]  # rows of SAME padding, of which the end has more
    before = [rows // 2 for rows in total]
    pointwise, biases = folded(layer, arrays)
    x = op.Conv(x, graphs.constant(op, f"{layer.name}/depthwise", depthwise), group=layer.inputs,
                kernel_shape=[layer.kernel] * 2, dilations=layer.dilation,
                pads=before + [rows - first for rows, first in zip(total, before, strict=True)])
    return op.Conv(x, graphs.constant(op, f"{layer.name}/pointwise", pointwise),
                   graphs.constant(op, f"{layer.name}/biases", biases), group=layer.splits, kernel_shape=[1, 1])


def folded(layer: Layer, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """float32 [outputs, inputs / splits, 1, 1] and [outputs]: the products of a layer with its batch normalization.

    gamma (x - popmean) / sqrt(popvariance + EPSILON) + beta, in float64, of x = W input + biases.
    """
    def array(name: str) -> np.ndarray:
        return arrays[f"{layer.name}/{name}"].astype(np.float64)

    if layer.splits == 1:
        weights, biases = array("SeparableConv2d/pointwise_weights")[0, 0].T, array("SeparableConv2d/biases")
    else:
        parts = [f"split_{layer.index}_{part}" for part in range(layer.splits)]
        weights = np.concatenate([array(f"{part}/kernel").T for part in parts])
        biases = np.concatenate([array(f"{part}/bias") for part in parts])
    gain = (array("gamma") / np.sqrt(array("popvariance") + EPSILON)).reshape(-1)
    weights = weights * gain[:, None]
    biases = (biases - array("popmean").reshape(-1)) * gain + array("beta")
    return weights[..., None, None].astype(np.float32), biases.astype(np.float32)
