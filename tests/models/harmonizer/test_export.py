"""The artifacts have real LSTMs, take any batch and length, and were held against Keras."""

import json

import numpy as np
import onnx
import pytest

from models.harmonizer import inputs
from models.harmonizer.chords import NAMES
from scripts import graphs, recipe, reference
from tests.conftest import ROOT, exact_session

VARIANTS = ("fp32", "fp16", "int8")


@pytest.fixture(scope="module")
def sessions(bundled):
    return {name: exact_session(bundled / f"harmonizer-chords-{name}.onnx") for name in VARIANTS}


def test_keras_lstms_are_lstms(bundled):
    model = onnx.load(bundled / "harmonizer-chords-fp32.onnx")
    lstms = [node for node in model.graph.node if node.op_type == "LSTM"]
    directions = sorted(a.s.decode() for node in lstms for a in node.attribute if a.name == "direction")
    assert directions == ["bidirectional", "forward"]
    assert not list(graphs.inner_graphs(model.graph)), "nothing loops"
    assert {node.domain for node in model.graph.node} == {""}


def test_eight_bits_are_where_the_weights_are(bundled):
    nodes = onnx.load(bundled / "harmonizer-chords-int8.onnx").graph.node
    kinds = [node.op_type for node in nodes]
    assert kinds.count("DynamicQuantizeLSTM") == 2 and "LSTM" not in kinds and "MatMulNBits" in kinds


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_artifact_says_its_chords_and_whose_weights_it_has(sessions, variant):
    told = sessions[variant].get_modelmeta().custom_metadata_map
    assert told["chords"].split(", ") == list(NAMES) and told["weights"] == "bundled"


def test_the_gates_passed_at_four_lengths_and_four_batches(bundled):
    cases = reference.read(bundled.parent / "export/reference.npz")["chords"]
    assert len({arrays["melody"].shape[1] for arrays in cases.values()}) >= 3
    assert len({arrays["melody"].shape[0] for arrays in cases.values()}) >= 2
    report = json.loads((bundled.parent / "verify/report.json").read_text())
    gates = [gate for artifact in report["artifacts"] for gate in artifact["gates"]]
    told = recipe.read(ROOT, "harmonizer")["gates"]
    assert len(gates) == len(told) + 2 and all(gate["passed"] for gate in gates)  # fp16 and int8 are smaller, too


@pytest.mark.parametrize("beats", [1, 2, 33, 160])
def test_a_batch_answers_as_each_of_its_melodies_does_alone(sessions, beats):
    melodies = inputs.songs("batch", 3, beats)
    [together] = sessions["fp32"].run(["logits"], {"melody": melodies})
    assert together.shape == (3, beats, len(NAMES))
    for melody, logits in zip(melodies, together):
        [alone] = sessions["fp32"].run(["logits"], {"melody": melody[None]})
        np.testing.assert_allclose(alone[0], logits, atol=1e-4)


def test_a_length_that_is_no_whole_beats_is_an_error(sessions):
    with pytest.raises(Exception, match=r"(?i)shape"):
        sessions["fp32"].run(["logits"], {"melody": np.full((1, 6), 60)})


def test_made_melodies_hold_passing_notes_and_rests():
    songs = inputs.songs("any", 8, 32).reshape(8, 32, 4)
    assert (songs[..., 0] != songs[..., 2]).any() and (songs == 0).any() and songs.max() <= 87
