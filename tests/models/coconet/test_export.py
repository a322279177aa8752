"""The exported network is the checkpoint's, to the last bit, and in a reproducible form."""

import numpy as np
import onnx
import pytest

from models.coconet import inputs
from tests.conftest import run

DUMP = """
import sys
import numpy as np
import tensorflow as tf
reader = tf.train.load_checkpoint(sys.argv[1] + "/best_model.ckpt")
np.savez(sys.argv[2], **{name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()})
"""


@pytest.fixture(scope="module")
def checkpoint(tiny, tmp_path_factory) -> dict[str, np.ndarray]:
    """The arrays of the tiny stand-ins, as TensorFlow reads them."""
    place = tmp_path_factory.mktemp("checkpoint") / "arrays.npz"
    done = run("scripts/in", "legacy", "python", "-c", DUMP, tiny.parent / "fetch", place)
    assert done.returncode == 0, done.stderr
    return dict(np.load(place))


def test_every_convolution_is_the_checkpoints_with_its_batch_norm_folded_exactly(tiny, checkpoint):
    """Bit for bit what IEEE arithmetic gives on any CPU."""
    graph = onnx.load(tiny.parent / "export/denoiser.onnx").graph
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 6
    for layer, node in enumerate(convolutions):
        weights, gamma, beta, mean, variance = (checkpoint[f"model/conv{layer}/{kind}"] for kind in (
            "weights", "gamma", "beta", "popmean", "popvariance"))
        factor = (1 / np.sqrt((variance + np.float32(1e-7)).astype(np.float64))).astype(np.float32) * gamma
        np.testing.assert_array_equal(arrays[node.input[1]], (weights * factor).transpose(3, 2, 0, 1))
        np.testing.assert_array_equal(arrays[node.input[2]], beta - (mean * factor).ravel())


def test_stand_ins_have_batch_norms_as_far_from_1_as_the_edition_for_browsers(checkpoint):
    """And these are of the layers: so no result leaves what its gain and offset let expect."""
    gammas, means, variances = (np.concatenate([checkpoint[f"model/conv{layer}/{kind}"].ravel() for layer in range(5)])
                                for kind in ("gamma", "popmean", "popvariance"))
    assert -7 <= gammas.min() < -5 and 5 < gammas.max() <= 7
    assert variances.min() < 5e3 and variances.max() > 1e6 and (variances > 0).all()
    assert np.abs(means).max() > 3e3


def test_stand_ins_answer_with_many_notes_and_neither_all_nor_none_for_sure(tiny):
    reference = np.load(tiny.parent / "export/reference.npz")
    logits = reference["denoiser/chorales/logits"].astype(np.float64)
    likeliest = 1 / np.exp(logits - logits.max(2, keepdims=True)).sum(2)
    assert len(np.unique(logits.argmax(2))) > 30 and 0.15 < np.median(likeliest) < 0.99


def test_progressions_are_chords_within_the_voices():
    pitches = inputs.progressions("any", 4, 64)
    for voice, (low, high) in enumerate(inputs.RANGES):
        assert low <= pitches[..., voice].min() and pitches[..., voice].max() <= high
    assert (np.diff(pitches.reshape(4, 16, 4, 4), axis=2) == 0).all()
    assert all(len({pitch % 12 for pitch in chord}) <= 3 for chord in pitches.reshape(-1, 4))


def test_calibration_shows_every_share_of_hidden_notes_and_the_harmonizers_mask():
    masks = np.concatenate([batch["masks"] for batch in inputs.calibration("denoiser")])
    shares = masks[:, :, 0].mean(axis=(1, 2))
    assert shares.min() < 0.2 and shares.max() > 0.8
    assert any((mask[..., 0] == 0).all() and (mask[..., 1:] == 1).all() for mask in masks)
