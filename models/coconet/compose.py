"""The Gibbs chain around a denoiser, as one ONNX graph.

Block Gibbs sampling after Huang et al., "Counterpoint by Convolution" (ISMIR 2017), with the
schedule of Yao et al. (2014) and its constants as in magenta/models/coconet/lib_tfsampling.py
(build_sample_graph, compute_mask_prob_from_yao_schedule). Unlike there, noise is an input and
the given voices are kept bit for bit.
"""

import onnx
from onnxscript import FLOAT, INT64, script
from onnxscript import opset17 as op
from onnxscript.values import Opset

from scripts import graphs

STEP = Opset("bellfoundry.step", 1)


@script(STEP)
def denoiser(pianorolls, masks):
    """Stands for the variant's own denoiser, which takes its place below."""
    return op.Identity(pianorolls), op.Identity(masks)


@script(default_opset=op)
def harmonizer(
    pianorolls: FLOAT["batch", "time", 46, 4],
    masks: FLOAT["batch", "time", 46, 4],
    uniforms: FLOAT["passes", 2, "batch", "time", 4],
    temperature: FLOAT,
    steps: INT64,
) -> FLOAT["batch", "time", 46, 4]:
    # Of the smallest temperature only the most probable pitch survives.
    heat = op.Max(temperature, 1e-30)
    pitches = op.Unsqueeze(op.Range(0, 46, 1), [0, 1, 3])
    last_pitch = op.Constant(value_int=45)
    current = op.Identity(pianorolls)
    passes = steps + 1
    for number in range(passes):
        # The first pass rewrites every hidden note, later ones a share that falls from 0.9 to 0.1.
        done = op.Cast(number - 1, to=onnx.TensorProto.FLOAT) / op.Cast(steps, to=onnx.TensorProto.FLOAT)
        share = op.Where(number == 0, 1.0, op.Max(0.1, 0.9 - 0.8 * done / 0.7))
        noise = op.Gather(uniforms, number, axis=0)
        chosen = op.Cast(op.Gather(noise, 0, axis=0) < share, to=onnx.TensorProto.FLOAT)
        rewritten = masks * op.Unsqueeze(chosen, [2])

        logits, _probabilities = denoiser(current, rewritten)
        weights = op.Exp((logits - op.ReduceMax(logits, axes=[2], keepdims=1)) / heat)
        cumulative = op.CumSum(weights, 2)
        total = op.ReduceSum(weights, [2], keepdims=1)
        drawn = op.Unsqueeze(op.Gather(noise, 1, axis=0), [2])
        below = op.ReduceSum(op.Cast(cumulative <= drawn * total, to=onnx.TensorProto.INT64), [2], keepdims=1)
        sample = op.Cast(pitches == op.Min(below, last_pitch), to=onnx.TensorProto.FLOAT)
        current = op.Where(rewritten > 0.0, sample, current)
    harmonized = op.Identity(current)
    return harmonized


def compose(steps: dict[str, onnx.ModelProto]) -> dict[str, onnx.ModelProto]:
    """The composed components for one variant: harmonizer, around steps["denoiser"]."""
    return {"harmonizer": graphs.inline_steps(harmonizer.to_model_proto(), steps)}
