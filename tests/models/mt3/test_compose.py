"""The loop in the graph does what its own step does that is called from outside; and the gates close."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.mt3 import decode, inputs
from models.mt3.player import stepping
from scripts import graphs, job, verify
from scripts.recipe import read
from tests.conftest import ROOT, exact_session

VARIANTS = ("fp32", "fp16", "int8")


def session(folder, component, variant):
    return exact_session(folder / f"mt3-{component}-{variant}.onnx")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_loop_writes_what_its_step_does(cast, variant):
    """At once, for rows that end and rows that don't."""
    mel = inputs.mels("compose", 8, 40)
    one = stepping(session(cast, "encoder", variant), session(cast, "decoder", variant), mel)
    [found] = session(cast, "transcriber", variant).run(None, {"mel": mel, "length": np.array(150)})
    np.testing.assert_array_equal(found, decode.greedy(one, 8, 150))


@settings(max_examples=8)
@given(st.integers(1, 4), st.integers(1, 90), st.integers(1, 40))
def test_any_batch_frames_and_length_give_tokens_of_that_shape(cast, batch, frames, length):
    mel = inputs.mels("any", batch, frames)
    [tokens] = session(cast, "transcriber", "int8").run(None, {"mel": mel, "length": np.array(length)})
    assert tokens.shape == (batch, length) and tokens.min() >= 0 and tokens.max() < 1536
    for row in tokens:
        ends = np.flatnonzero(row == inputs.END)
        assert len(ends) <= 1 and not (len(ends) and row[ends[0] + 1:].any())


def test_rows_of_a_batch_do_not_touch(cast):
    """In fp32, where a row is rounded as it would be alone."""
    mel, transcriber = inputs.mels("apart", 3, 40), session(cast, "transcriber", "fp32")
    [together] = transcriber.run(None, {"mel": mel, "length": np.array(40)})
    for row in range(3):
        [alone] = transcriber.run(None, {"mel": mel[row:row + 1], "length": np.array(40)})
        np.testing.assert_array_equal(together[row], alone[0])


def test_other_sounds_are_written_otherwise(full_cast):
    transcriber = session(full_cast, "transcriber", "int8")
    told = [transcriber.run(None, {"mel": inputs.mels(name, 1, 64), "length": np.array(32)})[0] for name in "abc"]
    assert len({tokens.tobytes() for tokens in told}) == 3


@pytest.mark.parametrize(("variant", "products"), [("fp32", 49 + 32), ("int8", 32)])
def test_a_step_is_49_products_and_attentions_two_a_layer(cast, variant, products):
    """int8: the 49 in ONNX Runtime's operator, the attention's in float32."""
    nodes = [node.op_type for node in onnx.load(cast / f"mt3-decoder-{variant}.onnx").graph.node]
    assert nodes.count("MatMul") == products
    assert nodes.count("MatMulNBits") == (49 if variant == "int8" else 0)


def test_the_bench_writes_all_its_tokens(full_cast):
    """An end before the last token would make the artifact look faster than it is."""
    for variant in ("fp32", "int8"):
        transcriber = session(full_cast, "transcriber", variant)
        for work, feed in inputs.bench().items():
            if work.startswith("transcriber") and work not in inputs.TRAINED:
                [tokens] = transcriber.run(None, feed)
                assert (tokens[:, -1] != 0).any(), work


# Planted defects: what published conversions get wrong is caught by the gates


@pytest.fixture
def task(cast, tmp_path):
    """The job of a verify stage on a copy of the tiny artifacts."""
    import shutil

    folder = cast.parent
    for stage in ("compose", "export", "ask"):
        shutil.copytree(folder / stage, tmp_path / stage)
    (tmp_path / "out").mkdir()
    return job.Job("mt3", "tiny", read(ROOT, "mt3"), {name: tmp_path / name for name in ("compose", "export", "ask")},
                   tmp_path / "out", None)


def replaced(path, change):
    model = onnx.load(path)
    for graph in (model.graph, *graphs.inner_graphs(model.graph)):
        for tensor in graph.initializer:
            array = change(tensor.name, onnx.numpy_helper.to_array(tensor))
            if array is not None:
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))
    onnx.save(model, path)


@pytest.mark.parametrize(("component", "change", "missed"), [
    ("decoder", lambda name, array: np.ones_like(array) if name.endswith("norm") else None, "max_error of logits"),
    ("decoder", lambda name, array: np.roll(array, 1, axis=0) if name == "positions" else None, "max_error of logits"),
    ("decoder", lambda name, array: array / 8 if name.endswith("encoder_decoder_attention/query") else None,
     "max_error of logits"),
    ("encoder", lambda name, array: np.ones_like(array) if name == "encoder/encoder_norm" else None,
     "max_error of cross_keys"),
    ("frontend", lambda name, array: array * np.float32(1.02) if name == "mel_matrix" else None,
     "mean_error of mel.*p99_error of mel"),
    ("transcriber", lambda name, array: np.roll(array, 1, axis=0) if name.startswith("embedding") else None,
     "equality of tokens"),
], ids=["scales dropped", "positions shifted", "queries scaled by 1/sqrt(d)", "last norm dropped", "louder mel",
        "another token's embedding"])
def test_a_conversion_that_gets_something_wrong_is_caught(task, component, change, missed):
    replaced(task.inputs["compose"] / f"mt3-{component}-fp32.onnx", change)
    with pytest.raises(job.Refusal, match=f"mt3-{component}-fp32.onnx: .*{missed}"):
        verify.verify(task)
