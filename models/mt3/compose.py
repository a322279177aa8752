"""Greedy decoding as one graph, from a spectrogram to tokens.

After temperature_sample in t5x/decoding.py at temperature 0: each token is the likeliest after those
before it, the first after 0. A row that has ended is filled up with 0; when all have, decoding stops.
"""

import onnx
import onnx_ir as ir
from onnxscript import GraphBuilder, OpBuilder, build_graph

from models.mt3.inputs import DEPTH, END, HEAD_DIM, HEADS, LAYERS
from scripts import graphs

STEP = "bellfoundry.step"  # the domain of the parts, whose graphs take their places below
OPSETS = {"": 17, STEP: 1}
STATES = [f"{kind}_{layer}" for kind in ("keys", "values") for layer in range(LAYERS)]
BOOL, INT, FLOAT = ir.DataType.BOOL, ir.DataType.INT64, ir.DataType.FLOAT


def transcriber() -> onnx.ModelProto:
    """mel [batch, frames, 512], length [] → tokens [batch, length]: 1 ends a row, 0 comes after."""
    graph = ir.Graph([], [], nodes=[], opset_imports=OPSETS, name="transcriber")
    builder = GraphBuilder(graph)
    op = builder.op
    mel = builder.input("mel", FLOAT, ["batch", "frames", DEPTH])
    length = builder.input("length", INT, [])
    cross = builder.opset(STEP).encoder(mel, _outputs=[f"cross_{state}" for state in STATES])

    def step(op: OpBuilder, _: ir.Value, going: ir.Value, token: ir.Value, ended: ir.Value,
             *past: ir.Value) -> list[ir.Value]:
        logits, *states = op.builder.opset(STEP).decoder(token, *past, *cross, _outputs=["logits", *STATES])
        token = op.Where(ended, 0, op.ArgMax(logits, axis=-1, keepdims=0))
        ended = op.Or(ended, op.Equal(token, END))
        going = op.Equal(op.ReduceMin(op.Cast(ended, to=INT), keepdims=0), 0)
        return [going, token, ended, *states, op.Identity(token)]

    def values(suffix: str) -> list[ir.Value]:
        """What goes from a step to the next."""
        told = [("going", BOOL, []), ("token", INT, ["batch"]), ("ended", BOOL, ["batch"])]
        told += [(state, FLOAT, ["batch", HEADS, None, HEAD_DIM]) for state in STATES]
        return [ir.val(name + suffix, dtype, shape) for name, dtype, shape in told]

    body = build_graph(step, [ir.val("number", INT, []), *values("_before")],
                       [*values("_after"), ir.val("written", INT, ["batch"])],
                       opset_imports=OPSETS, name="step", parent=builder)
    batch = op.Shape(mel, start=0, end=1)
    nobody = op.Expand(0, batch)
    nothing = op.Expand(0.0, op.Concat(batch, [HEADS, 0, HEAD_DIM], axis=0))
    *_, written = op.Loop(length, True, nobody, op.Cast(nobody, to=BOOL), *[nothing] * len(STATES), body=body,
                          _outputs=len(STATES) + 3)
    missing = op.Sub(length, op.Shape(written, start=0, end=1))
    filled = op.Pad(written, op.Concat([0, 0], missing, [0], axis=0))
    builder.add_output(op.Transpose(filled, perm=[1, 0]), "tokens")
    graph.outputs[0].type, graph.outputs[0].shape = ir.TensorType(INT), ir.Shape(["batch", "length"])
    model = ir.serde.serialize_model(ir.Model(graph, ir_version=8))
    for part in ("encoder", "decoder"):
        model.functions.add(domain=STEP, name=part)
    return model


def compose(steps: dict[str, onnx.ModelProto]) -> dict[str, onnx.ModelProto]:
    """The composed component of one variant, around its encoder and decoder."""
    return {"transcriber": graphs.inline_steps(transcriber(), steps)}
