"""MT3's network as ONNX graphs, written so that a step of decoding is few, large operations.

What upstream computes anew at every step though it is always the same is computed once: the encoder
hands out each decoder layer's keys and values. Products of one input are one product. The arithmetic is
that of mt3/network.py and mt3/layers.py (T5 1.1: RMS norm, gated gelu, no biases, attention without
1/sqrt(d), fixed sinusoids).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnxscript import OpBuilder

from models.mt3 import spectrogram
from models.mt3.inputs import HEAD_DIM, HEADS, HOP, LAYERS
from models.mt3.spectrogram import FRAME, NOTHING
from scripts.graphs import build, constant

Arrays = Mapping[str, np.ndarray]
POSITIONS = 1024  # the most frames or tokens: each has its row in a table of sinusoids
EPSILON = 1e-6  # LayerNorm in mt3/layers.py
OWN = ("query", "key", "value")


def sinusoids(width: int) -> np.ndarray:
    """The fixed positions, float32 [POSITIONS, width]: sines, then cosines (sinusoidal in mt3/layers.py)."""
    periods = np.exp(np.arange(width // 2) * (-np.log(10000.0) / (width // 2 - 1)))
    angles = np.arange(POSITIONS)[:, None] * periods
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def frontend(described: dict[str, Any], opset: int) -> onnx.ModelProto:
    """samples [batch, samples] → mel [batch, frames, 512], as spectrogram.log_mel computes it."""

    def fill(op: OpBuilder, samples: ir.Value) -> list[ir.Value]:
        padded = op.Pad(samples, [0, 0, 0, FRAME - HOP])
        window = constant(op, "window", spectrogram.window().astype(np.float32))
        spectrum = op.STFT(op.Unsqueeze(padded, [2]), HOP, window)
        mel = op.MatMul(op.ReduceL2(spectrum, axes=[-1], keepdims=0),
                        constant(op, "mel_matrix", spectrogram.mel_matrix().astype(np.float32)))
        return [op.Log(op.Where(op.LessOrEqual(mel, 0.0), NOTHING, mel))]

    return build(described, opset, fill)


class Layers:
    """Layers of one network in a graph that is being built: each takes values and returns values."""

    def __init__(self, op: OpBuilder, arrays: Arrays):
        self.op, self.arrays = op, arrays

    def product(self, x: ir.Value, *names: str) -> ir.Value:
        """x times the kernels of these names, side by side."""
        kernels = [self.arrays[f"{name}/kernel"] for name in names]
        return self.op.MatMul(x, constant(self.op, "+".join(names), np.concatenate(kernels, axis=1)))

    def norm(self, x: ir.Value, name: str) -> ir.Value:
        """The RMS norm, in the pattern that runtimes know as one operation."""
        op = self.op
        mean = op.ReduceMean(op.Pow(x, 2.0), axes=[-1], keepdims=1)
        return op.Mul(op.Div(x, op.Sqrt(op.Add(mean, EPSILON))), constant(self.op, name, self.arrays[f"{name}/scale"]))

    def heads(self, x: ir.Value) -> ir.Value:
        """[batch, time, HEADS * HEAD_DIM] → [batch, HEADS, time, HEAD_DIM]"""
        return self.op.Transpose(self.op.Reshape(x, [0, 0, HEADS, HEAD_DIM]), perm=[0, 2, 1, 3])

    def attention(self, query: ir.Value, keys: ir.Value, values: ir.Value) -> ir.Value:
        """[batch, HEADS, queries, HEAD_DIM], of keys and values [batch, HEADS, time, HEAD_DIM]"""
        op = self.op
        scores = op.MatMul(query, op.Transpose(keys, perm=[0, 1, 3, 2]))
        return op.MatMul(op.Softmax(scores, axis=-1), values)

    def feed_forward(self, x: ir.Value, name: str) -> ir.Value:
        """x and what the layer adds to it: gelu(x wi_0) * (x wi_1) wo, of its norm."""
        op = self.op
        hidden = self.product(self.norm(x, f"{name}/pre_mlp_layer_norm"), f"{name}/mlp/wi_0", f"{name}/mlp/wi_1")
        gate, value = op.Split(hidden, axis=-1, _outputs=2)
        return op.Add(x, self.product(op.Mul(self.gelu(gate), value), f"{name}/mlp/wo"))

    def gelu(self, x: ir.Value) -> ir.Value:
        """The tanh form of the gelu, as Flax has it (D. Hendrycks, K. Gimpel, arXiv:1606.08415)."""
        op = self.op
        inner = op.Mul(op.Add(x, op.Mul(op.Pow(x, 3.0), 0.044715)), float(np.sqrt(2 / np.pi)))
        return op.Mul(op.Mul(x, 0.5), op.Add(op.Tanh(inner), 1.0))


def width(arrays: Arrays) -> int:
    return arrays["decoder/token_embedder/embedding"].shape[1]


def encoder(arrays: Arrays, described: dict[str, Any], opset: int) -> onnx.ModelProto:
    """mel [batch, frames, 512] → what each decoder layer needs of the sound: keys, then values."""

    def fill(op: OpBuilder, mel: ir.Value) -> list[ir.Value]:
        layers = Layers(op, arrays)
        x = layers.product(mel, "encoder/continuous_inputs_projection")
        positions = constant(op, "positions", sinusoids(width(arrays)))
        x = op.Add(x, op.Slice(positions, [0], op.Shape(mel, start=1, end=2), [0]))
        for number in range(LAYERS):
            name = f"encoder/layers_{number}"
            normed = layers.norm(x, f"{name}/pre_attention_layer_norm")
            own = op.Split(layers.product(normed, *(f"{name}/attention/{part}" for part in OWN)), axis=-1, _outputs=3)
            attended = layers.attention(*map(layers.heads, own))
            merged = op.Reshape(op.Transpose(attended, perm=[0, 2, 1, 3]), [0, 0, HEADS * HEAD_DIM])
            x = op.Add(x, layers.product(merged, f"{name}/attention/out"))
            x = layers.feed_forward(x, name)
        encoded = layers.norm(x, "encoder/encoder_norm")
        return [layers.heads(layers.product(encoded, f"decoder/layers_{number}/encoder_decoder_attention/{part}"))
                for part in ("key", "value") for number in range(LAYERS)]

    return build(described, opset, fill)


def decoder(arrays: Arrays, described: dict[str, Any], opset: int) -> onnx.ModelProto:
    """One step: tokens [batch], keys and values of the tokens before and of the sound → logits [batch, vocabulary], and
    keys and values with this token's.
    """

    def fill(op: OpBuilder, tokens: ir.Value, *states: ir.Value) -> list[ir.Value]:
        layers = Layers(op, arrays)
        past_keys, past_values, cross_keys, cross_values = (
            states[start:start + LAYERS] for start in range(0, 4 * LAYERS, LAYERS))
        x = op.Gather(constant(op, "embedding", arrays["decoder/token_embedder/embedding"]), tokens)
        positions = constant(op, "positions", sinusoids(width(arrays)))
        x = op.Add(x, op.Gather(positions, op.Shape(past_values[0], start=2, end=3)))
        keys, values = [], []
        for number in range(LAYERS):
            name = f"decoder/layers_{number}"
            normed = layers.norm(x, f"{name}/pre_self_attention_layer_norm")
            own = layers.product(normed, *(f"{name}/self_attention/{part}" for part in OWN))
            query, key, value = op.Split(op.Reshape(own, [0, 3 * HEADS, 1, HEAD_DIM]), axis=1, _outputs=3)
            keys.append(op.Concat(past_keys[number], key, axis=2))
            values.append(op.Concat(past_values[number], value, axis=2))
            attended = op.Reshape(layers.attention(query, keys[-1], values[-1]), [0, HEADS * HEAD_DIM])
            x = op.Add(x, layers.product(attended, f"{name}/self_attention/out"))
            normed = layers.norm(x, f"{name}/pre_cross_attention_layer_norm")
            query = op.Reshape(layers.product(normed, f"{name}/encoder_decoder_attention/query"),
                               [0, HEADS, 1, HEAD_DIM])
            attended = op.Reshape(layers.attention(query, cross_keys[number], cross_values[number]),
                                  [0, HEADS * HEAD_DIM])
            x = op.Add(x, layers.product(attended, f"{name}/encoder_decoder_attention/out"))
            x = layers.feed_forward(x, name)
        logits = layers.product(layers.norm(x, "decoder/decoder_norm"), "decoder/logits_dense")
        return [logits, *keys, *values]

    return build(described, opset, fill)
