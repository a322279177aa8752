"""The samplers: the whole masked decoding as one ONNX loop around a transformer's step.

What a step does is in sampling.py, in NumPy, with its sources upstream; here it is the same in a graph.
"""

import onnx
from onnxscript import FLOAT, INT64, script
from onnxscript import opset23 as op
from onnxscript.values import Opset

from models.vampnet.inputs import MASK
from scripts import graphs

STEP = Opset("bellfoundry.step", 1)
FLOATS, INTS, DOUBLES = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.DOUBLE
PI = 3.1415927410125732  # as a float32 has it
INFINITE = float("inf")


@script(STEP)
def transformer(codes):
    """Stands for the variant's own step, which takes its place below."""
    return op.Identity(codes)


@script(default_opset=op)
def sampler(
    codes: INT64["batch", "codebooks", "time"],
    mask: INT64["batch", "codebooks", "time"],
    uniforms: FLOAT["passes", 2, "batch", "written", "time"],
    steps: INT64,
    temperature: FLOAT,
    mask_temperature: FLOAT,
    sample_cutoff: FLOAT,
    typical_mass: FLOAT,
    typical_min_tokens: INT64,
) -> INT64["batch", "codebooks", "time"]:
    kept = op.Shape(codes, start=1, end=2) - op.Shape(uniforms, start=3, end=4)
    start = op.Where(mask == 1, MASK, codes)
    at_start = op.Cast(op.ReduceSum(op.Cast(start == MASK, to=INTS), keepdims=0), to=FLOATS)
    conditioning = op.Slice(start, [0], kept, [1])
    current = op.Slice(start, kept, [14], [1])  # CODEBOOKS at most
    heat = op.Where(temperature > 0.0, temperature, 1.0)
    for number in range(steps):
        count = op.Cast(steps, to=FLOATS)
        share = op.Cast(number + 1, to=FLOATS) / count
        cosine = op.Cast(op.Cos(op.Cast(share * PI / 2.0, to=DOUBLES)), to=FLOATS)
        scheduled = op.Cast(op.Floor(op.Clip(cosine, 1e-10, 1.0) * at_start), to=INTS)

        logits = transformer(op.Concat(conditioning, current, axis=1))
        if typical_mass < 1.0:
            shifted = op.LogSoftmax(logits, axis=-1)
            probabilities = op.Exp(shifted)
            entropy = op.Neg(op.ReduceSum(shifted * probabilities, [-1], keepdims=1))
            distance = op.Abs(op.Neg(shifted) - entropy)
            ordered, order = op.TopK(distance, op.Shape(distance, start=3, end=4), axis=-1, largest=0)
            summed = op.CumSum(op.GatherElements(probabilities, order, axis=-1), -1)
            before = op.ReduceSum(op.Cast(summed < typical_mass, to=INTS), [-1], keepdims=1)
            last = op.Min(before, op.Shape(distance, start=3, end=4) - 1)
            in_any_case = op.Gather(ordered, op.Unsqueeze(op.Max(typical_min_tokens, 1) - 1, [0]), axis=-1)
            farthest = op.Max(op.GatherElements(ordered, last, axis=-1), in_any_case)
            filtered = op.Where(distance > farthest, op.Neg(INFINITE), logits)
        else:
            filtered = op.Identity(logits)

        noise = op.Gather(uniforms, number, axis=0)
        scaled = filtered / heat
        scaled = scaled - op.ReduceMax(scaled, [-1], keepdims=1)
        cumulative = op.CumSum(op.Exp(scaled), -1)
        total = op.Gather(cumulative, [-1], axis=-1)
        chance = op.Unsqueeze(op.Gather(noise, 0, axis=0), [-1]) * total
        drawn = op.ReduceSum(op.Cast(cumulative <= chance, to=INTS), [-1], keepdims=1)
        sampled = op.Cast(number, to=FLOATS) / count <= sample_cutoff
        code = op.Where(sampled, drawn, op.ArgMax(filtered, axis=-1))
        logarithm = op.Squeeze(op.GatherElements(scaled, code, axis=-1) - op.Log(total), [-1])
        gumbel = op.Neg(op.Log(op.Neg(op.Log(op.Max(op.Gather(noise, 1, axis=0), 1e-20)))))
        masked = current == MASK
        written = op.Where(masked, op.Squeeze(code, [-1]), current)
        confidence = op.Where(masked, logarithm + mask_temperature * (1.0 - share) * gumbel, INFINITE)

        alive = op.ReduceSum(op.Cast(masked, to=INTS), [1, 2], keepdims=1)
        again = op.Where(number + 1 == steps, scheduled, op.Max(op.Min(alive - 1, scheduled), 1))
        flat = op.Flatten(confidence)
        ascending, _ = op.TopK(flat, op.Shape(flat, start=1, end=2), axis=-1, largest=0)
        cut_off = op.Unsqueeze(op.GatherElements(ascending, op.Expand(op.Squeeze(again, [2]), op.Concat(
            op.Shape(flat, start=0, end=1), [1], axis=0)), axis=-1), [2])
        current = op.Where(confidence < cut_off, MASK, written)
    vamped = op.Concat(conditioning, current, axis=1)
    return vamped


def compose(steps: dict[str, onnx.ModelProto]) -> dict[str, onnx.ModelProto]:
    """The samplers of one variant, around its transformers."""
    return {f"{part}-sampler": graphs.inline_steps(sampler.to_model_proto(), {"transformer": steps[part]})
            for part in ("coarse", "c2f")}
