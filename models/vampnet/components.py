"""VampNet's transformers and codec as ONNX graphs, written for runtimes: few, large operations.

The arithmetic is architecture.py's, the original's. The positions' table is looked up by distance. A periodic
activation takes fewer operations where the convolutions around it scale for it, and a transposed convolution is a
plain one that writes a frame's samples as channels.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnxscript import OpBuilder

from models.vampnet.architecture import EPSILON, FARTHEST, buckets
from models.vampnet.inputs import HOP, VOCABULARY
from models.vampnet.weights import codebooks
from scripts.graphs import build, constant

Arrays = Mapping[str, np.ndarray]
WIDE = 128  # channels from which ONNX Runtime's 2-D convolutions, in blocks of channels, are faster on two threads


def transformer(arrays: Arrays, codec: Arrays, sizes: Mapping[str, Any], described: dict[str, Any], opset: int
                ) -> onnx.ModelProto:
    """codes [batch, codebooks, time] → logits [batch, written, time, vocabulary]"""
    heads, count = sizes["n_heads"], sizes["n_codebooks"]
    written = count - sizes["n_conditioning_codebooks"]

    def fill(op: OpBuilder, codes: ir.Value) -> list[ir.Value]:
        def product(x: ir.Value, name: str) -> ir.Value:
            return op.MatMul(x, constant(op, name, arrays[f"{name}.weight"].T))

        def norm(x: ir.Value, name: str) -> ir.Value:
            return op.RMSNormalization(x, constant(op, name, arrays[f"{name}.weight"]), axis=-1, epsilon=EPSILON)

        def attention(x: ir.Value, name: str, bias: ir.Value) -> ir.Value:
            own = (product(x, f"{name}.{part}") for part in ("w_qs", "w_ks", "w_vs"))
            return product(op.Attention(*own, bias, q_num_heads=heads, kv_num_heads=heads), f"{name}.fc")

        def feed_forward(x: ir.Value, name: str) -> ir.Value:
            value, gate = np.split(arrays[f"{name}.w_1.weight"], 2)
            gated = op.Gelu(op.MatMul(x, constant(op, f"{name}.gate", gate.T)), approximate="tanh")
            return product(op.Mul(op.MatMul(x, constant(op, f"{name}.value", value.T)), gated), f"{name}.w_2")

        bias = biases(op, codes, arrays["transformer.layers.0.self_attn.relative_attention_bias.weight"])
        x = embedded(op, codes, np.concatenate([codebooks(codec, count), arrays["embedding.special.MASK"][:, None]], 1))
        projection = arrays["embedding.out_proj.weight"][..., 0].T
        x = op.Add(op.MatMul(x, constant(op, "embedding.out_proj", projection)),
                   constant(op, "embedding.out_proj.bias", arrays["embedding.out_proj.bias"]))
        for layer in (f"transformer.layers.{number}" for number in range(sizes["n_layers"])):
            x = op.Add(x, attention(norm(x, f"{layer}.norm_1"), f"{layer}.self_attn", bias))
            x = op.Add(x, feed_forward(norm(x, f"{layer}.norm_3"), f"{layer}.feed_forward"))
        x = norm(x, "transformer.norm")
        # Upstream's channels are vocabulary by written; these are written by vocabulary.
        matrix, own = (arrays[f"classifier.layers.0.{part}"].reshape(VOCABULARY, written, -1).swapaxes(0, 1).reshape(
            written * VOCABULARY, -1).T for part in ("weight", "bias"))
        logits = op.Add(op.MatMul(x, constant(op, "classifier", matrix)), constant(op, "classifier.bias", own[0]))
        return [op.Transpose(op.Reshape(logits, [0, 0, written, VOCABULARY]), perm=[0, 2, 1, 3])]

    return build(described, opset, fill)


def embedded(op: OpBuilder, codes: ir.Value, tables: np.ndarray) -> ir.Value:
    """The vectors of codes [batch, codebooks, time], side by side: [batch, time, codebooks * latent]."""
    count, size, latent = tables.shape
    rows = op.Add(codes, constant(op, "first_rows", size * np.arange(count)[:, None]))
    vectors = op.Gather(constant(op, "vectors", tables.reshape(count * size, latent)), rows)
    return op.Reshape(op.Transpose(vectors, perm=[0, 2, 1, 3]), [0, 0, count * latent])


def biases(op: OpBuilder, codes: ir.Value, table: np.ndarray) -> ir.Value:
    """What is added to the scores [1, heads, queries, keys]: the table's rows by distance, of which the far are one."""
    rows = buckets(torch.arange(-FARTHEST, FARTHEST + 1)).numpy()
    places = op.Range(0, op.Squeeze(op.Shape(codes, start=2, end=3)), 1)
    distance = op.Sub(op.Unsqueeze(places, [0]), op.Unsqueeze(places, [1]))
    near = op.Add(op.Clip(distance, -FARTHEST, FARTHEST), FARTHEST)
    return op.Unsqueeze(op.Gather(constant(op, "distances", table[rows].T), near, axis=1), [0])


def matrix(arrays: Arrays, name: str) -> np.ndarray:
    """Of a convolution that sees one frame: [inputs, outputs]"""
    return arrays[f"{name}.weight"][..., 0].T


def encoder(arrays: Arrays, sizes: Mapping[str, Any], described: dict[str, Any], opset: int) -> onnx.ModelProto:
    """audio [batch, samples] → codes [batch, codebooks, frames]; filled up with 0 to a whole frame"""

    def fill(op: OpBuilder, audio: ir.Value) -> list[ir.Value]:
        layers = Layers(op, arrays)
        missing = op.Mod(op.Neg(op.Shape(audio, start=1, end=2)), HOP)
        x = op.Unsqueeze(op.Pad(audio, op.Concat([0, 0, 0], missing, axis=0)), [1])
        x = layers.convolution(x, "encoder.block.0", pad=3)
        rates = sizes["encoder_rates"]
        for number, rate in enumerate(rates, 1):
            block = f"encoder.block.{number}.block"
            for layer, dilation in enumerate((1, 3, 9)):
                x = layers.residual(x, f"{block}.{layer}.block", 3 * dilation, 0, dilation)
            x = layers.convolution(x, f"{block}.4", pad=rate // 2, stride=rate, snake=f"{block}.3")
        x = layers.convolution(x, f"encoder.block.{len(rates) + 2}", pad=1, snake=f"encoder.block.{len(rates) + 1}")
        left, codes = op.Transpose(x, perm=[0, 2, 1]), []
        for name in (f"quantizer.quantizers.{number}" for number in range(sizes["n_codebooks"])):
            table = arrays[f"{name}.codebook.weight"]
            # Of vectors of length 1 the nearest is the one of the largest product, however long the other factor.
            unit = table / np.sqrt(np.square(table.astype(np.float64)).sum(1, keepdims=True))
            vectors = op.Add(op.MatMul(left, constant(op, f"{name}.in_proj", matrix(arrays, f"{name}.in_proj"))),
                             constant(op, f"{name}.in_proj.bias", arrays[f"{name}.in_proj.bias"]))
            nearest = op.MatMul(vectors, constant(op, f"{name}.unit", unit.T.astype(np.float32)))
            codes.append(op.ArgMax(nearest, axis=-1, keepdims=0))
            value = op.Gather(constant(op, f"{name}.codebook", table), codes[-1])
            product = op.MatMul(value, constant(op, f"{name}.out_proj", matrix(arrays, f"{name}.out_proj")))
            left = op.Sub(left, op.Add(product, constant(op, f"{name}.out_proj.bias", arrays[f"{name}.out_proj.bias"])))
        return [op.Concat(*(op.Unsqueeze(found, [1]) for found in codes), axis=1)]

    return build(described, opset, fill)


def decoder(arrays: Arrays, sizes: Mapping[str, Any], described: dict[str, Any], opset: int) -> onnx.ModelProto:
    """codes [batch, codebooks, frames] → audio [batch, samples]"""

    def fill(op: OpBuilder, codes: ir.Value) -> list[ir.Value]:
        layers, count, rates = Layers(op, arrays), sizes["n_codebooks"], sizes["decoder_rates"]
        names = [f"quantizer.quantizers.{number}.out_proj" for number in range(count)]
        # All codebooks' values at once: a sum of products is the product of what is side by side.
        value = op.MatMul(embedded(op, codes, codebooks(arrays, count)),
                          constant(op, "out_proj", np.concatenate([matrix(arrays, name) for name in names])))
        bias = np.sum([arrays[f"{name}.bias"] for name in names], 0, np.float64).astype(np.float32)
        x = op.Transpose(op.Add(value, constant(op, "out_proj.bias", bias)), perm=[0, 2, 1])
        x = layers.convolution(x, "decoder.model.0", pad=3)
        for number, rate in enumerate(rates, 1):
            block = f"decoder.model.{number}.block"
            x = layers.upsampled(x, f"{block}.1", rate, snake=f"{block}.0")
            blocks = []
            for width, kernel in enumerate((3, 7, 11)):
                y = x
                for layer, dilation in enumerate((1, 3, 5)):
                    y = layers.residual(y, f"{block}.2.mrf_blocks.{width}.block.{layer}.layer",
                                        (kernel - 1) * dilation // 2, kernel // 2, dilation)
                blocks.append(y)
            x = op.Div(op.Sum(*blocks), float(len(blocks)))
        x = layers.convolution(x, f"decoder.model.{len(rates) + 2}", pad=3, snake=f"decoder.model.{len(rates) + 1}")
        return [op.Squeeze(op.Tanh(x), [1])]

    return build(described, opset, fill)


class Layers:
    """Layers of the codec in a graph that is being built: each takes values [batch, channels, time] and returns such.

    A snake is x + sin²(αx) / α, or (u + sin² u) / α of u = αx: the convolution that follows it divides by α, and one
    that comes before it alone multiplies by it. Upstream adds 1e-9 to α where it divides.
    """

    def __init__(self, op: OpBuilder, arrays: Arrays):
        self.op, self.arrays = op, arrays

    def alpha(self, name: str) -> np.ndarray:
        """float64 [1, channels, 1]"""
        return self.arrays[f"{name}.alpha"].astype(np.float64) + 1e-9

    def waved(self, u: ir.Value) -> ir.Value:
        """α times the snake of what u is α times of."""
        sine = self.op.Sin(u)
        return self.op.Add(u, self.op.Mul(sine, sine))

    def snaked(self, x: ir.Value, name: str) -> ir.Value:
        """α times the snake of x."""
        return self.waved(self.op.Mul(x, constant(self.op, name, self.alpha(name).astype(np.float32))))

    def convolution(self, x: ir.Value, name: str, pad: int, dilation: int = 1, stride: int = 1,
                    snake: str | None = None, before: str | None = None) -> ir.Value:
        """snake: the one that its input goes through first. before: the one that its output, u, is for."""
        if snake:
            x = self.snaked(x, snake)
        weight, bias = self.arrays[f"{name}.weight"], self.arrays[f"{name}.bias"]
        if snake:
            weight = weight / self.alpha(snake)
        if before:
            weight, bias = weight * self.alpha(before).reshape(-1, 1, 1), bias * self.alpha(before).reshape(-1)
        return self.convolved(x, name, weight, bias, pad, dilation, stride)

    def convolved(self, x: ir.Value, name: str, weight: np.ndarray, bias: np.ndarray, pad: int, dilation: int = 1,
                  stride: int = 1) -> ir.Value:
        """weight [outputs, inputs, kernel]"""
        op, flat = self.op, min(weight.shape[:2]) < WIDE
        weight, bias = weight.astype(np.float32), constant(op, f"{name}.bias", bias.astype(np.float32))
        if flat:
            return op.Conv(x, constant(op, name, weight), bias, kernel_shape=weight.shape[2:], dilations=[dilation],
                           strides=[stride], pads=[pad, pad])
        y = op.Conv(op.Unsqueeze(x, [2]), constant(op, name, weight[:, :, None]), bias,
                    kernel_shape=[1, weight.shape[2]], dilations=[1, dilation], strides=[1, stride],
                    pads=[0, pad, 0, pad])
        return op.Squeeze(y, [2])

    def residual(self, x: ir.Value, name: str, first_pad: int, second_pad: int, dilation: int) -> ir.Value:
        """Snake, convolution, snake, convolution; added to what they are of."""
        u = self.convolution(x, f"{name}.1", first_pad, dilation, snake=f"{name}.0", before=f"{name}.2")
        weight = self.arrays[f"{name}.3.weight"] / self.alpha(f"{name}.2")
        y = self.convolved(self.waved(u), f"{name}.3", weight, self.arrays[f"{name}.3.bias"], second_pad)
        return self.op.Add(x, y)

    def upsampled(self, x: ir.Value, name: str, rate: int, snake: str) -> ir.Value:
        """A snake and a transposed convolution of 2 rate taps: sample q of frame t sees frames t and t - 1."""
        op, weight = self.op, self.arrays[f"{name}.weight"]  # [inputs, outputs, 2 rate]
        inputs, outputs = weight.shape[:2]
        x = self.snaked(x, snake)
        taps = np.stack([weight[..., rate:], weight[..., :rate]], -1) / self.alpha(snake).reshape(-1, 1, 1, 1)
        taps = taps.transpose(1, 2, 0, 3).reshape(outputs * rate, inputs, 2)
        frames = self.convolved(x, name, taps, np.repeat(self.arrays[f"{name}.bias"], rate), 1)
        split = op.Transpose(op.Reshape(frames, [0, outputs, rate, -1]), perm=[0, 1, 3, 2])
        return op.Slice(op.Reshape(split, [0, outputs, -1]), [rate // 2], [-(rate // 2)], [2])
