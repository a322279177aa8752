"""The loop in the graph does what its own step does that is called from outside; and the gates close."""

import shutil

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.mt3 import decode, inputs
from models.mt3.player import stepping
from scripts import job, verify
from scripts.recipe import read
from tests.conftest import ROOT, exact_session
from tests.models.mt3.defects import plant

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


# A planted defect: test_defects.py has those of the parts


@pytest.fixture
def task(cast, tmp_path):
    """The job of a verify stage on a copy of the tiny artifacts."""
    for stage in ("compose", "export", "ask"):
        shutil.copytree(cast.parent / stage, tmp_path / stage)
    (tmp_path / "out").mkdir()
    return job.Job("mt3", "tiny", read(ROOT, "mt3"), {name: tmp_path / name for name in ("compose", "export", "ask")},
                   tmp_path / "out", None)


def test_another_tokens_embedding_in_the_loop_fails_the_build(task):
    artifact = task.inputs["compose"] / "mt3-transcriber-fp32.onnx"
    plant(lambda weights: {name: np.roll(array, 1, axis=0) for name, array in weights.items()
                           if name.startswith("embedding")}, artifact, artifact)
    with pytest.raises(job.Refusal, match=r"mt3-transcriber-fp32\.onnx: .*equality of tokens"):
        verify.verify(task)
