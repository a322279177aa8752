"""The decoder as one Scan over its steps, and the whole way from taps to drums.

The decoder after GrooveLstmDecoder in magenta/models/music_vae/lstm_models.py: each step sees
what the last one drummed and z. What follows from z alone is computed once (opening). Where
Magenta draws its hits from a random generator, the numbers are an input here.
"""

import onnx
from onnxscript import FLOAT, graph, script
from onnxscript import opset17 as op
from onnxscript.values import Opset

from scripts import graphs

STEP = Opset("bellfoundry.step", 1)


@script(STEP)
def encoder(taps):
    """Stands, as the next two, for the variant's own, which takes its place below."""
    return op.Identity(taps), op.Identity(taps)


@script(STEP)
def opening(z):
    return op.Identity(z), op.Identity(z), op.Identity(z), op.Identity(z), op.Identity(z)


@script(STEP)
def step(previous, share, c0, h0, c1, h1):
    return op.Identity(previous), op.Identity(c0), op.Identity(h0), op.Identity(c1), op.Identity(h1)


@script(STEP, default_opset=op)
def drum(z, uniforms, temperature):
    """drums [batch, time, 27] from z [batch, z_size], uniforms [batch, time, 9] and temperature []."""
    # Of the smallest temperature only the more probable of hit and rest survives.
    heat = op.Max(temperature, 1e-30)
    first_c0, first_h0, first_c1, first_h1, share = opening(z)
    nothing = op.Expand(0.0, op.Concat(op.Shape(z, start=0, end=1), op.Constant(value_ints=[27]), axis=0))

    @graph()
    def drum_step(previous, c0, h0, c1, h1, drawn):
        raw, next_c0, next_h0, next_c1, next_h1 = step(previous, share, c0, h0, c1, h1)
        logits, velocities, offsets = op.Split(raw, [9, 9, 9], axis=1)
        hits = op.Cast(op.Sigmoid(logits / heat) > drawn, to=onnx.TensorProto.FLOAT)
        drums = op.Concat(hits, op.Sigmoid(velocities), op.Tanh(offsets), axis=1)
        return drums, next_c0, next_h0, next_c1, next_h1, op.Identity(drums)

    _, _, _, _, _, drummed = op.Scan(
        nothing, first_c0, first_h0, first_c1, first_h1, op.Transpose(uniforms, perm=[1, 0, 2]),
        num_scan_inputs=1, scan_output_axes=[1], body=drum_step)
    return drummed


@script(default_opset=op)
def decoder(
    z: FLOAT["batch", 256], uniforms: FLOAT["batch", "time", 9], temperature: FLOAT
) -> tuple[FLOAT["batch", "time", 9], FLOAT["batch", "time", 9], FLOAT["batch", "time", 9]]:
    drums = drum(z, uniforms, temperature)
    hits, velocities, offsets = op.Split(drums, [9, 9, 9], axis=2)
    return hits, velocities, offsets


@script(default_opset=op)
def groove(
    taps: FLOAT["batch", "time", 27], eps: FLOAT["batch", 256], uniforms: FLOAT["batch", "time", 9], temperature: FLOAT
) -> FLOAT["batch", "time", 27]:
    mu, sigma = encoder(taps)
    drums = drum(mu + sigma * eps, uniforms, temperature)
    return drums


def compose(steps: dict[str, onnx.ModelProto]) -> dict[str, onnx.ModelProto]:
    """The composed components for one variant, around its encoder, opening and step."""
    return {loop.name: graphs.inline_steps(loop.to_model_proto(), steps) for loop in (decoder, groove)}
