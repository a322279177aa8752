"""The exported network is the checkpoint's, to the last bit, and in a reproducible form."""

import numpy as np
import onnx

from models.coconet import inputs
from scripts.seeded import seeded_uniform


def seeded(layer: int, kind: str, *shape: int) -> np.ndarray:
    return seeded_uniform(f"coconet/model/conv{layer}/{kind}", shape)


def test_every_convolution_is_the_checkpoints_with_its_batch_norm_folded_exactly(tiny):
    """Bit for bit what IEEE arithmetic gives on any CPU, from the weights' own rule."""
    graph = onnx.load(tiny.parent / "export/denoiser.onnx").graph
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    shapes = [(3, 3, 8, 16), *[(3, 3, 16, 16)] * 3, (2, 2, 16, 16), (2, 2, 16, 4)]
    assert len(convolutions) == len(shapes)
    small = np.float32(0.1), np.float32(0.2)
    for layer, (node, shape) in enumerate(zip(convolutions, shapes)):
        weights = seeded(layer, "weights", *shape) * np.float32(np.sqrt(3 / np.prod(shape[:-1])))
        gamma = (1 + small[1] * seeded(layer, "gamma", shape[-1])) * np.float32(16 if layer == 5 else 0.5)
        variance = 1 + small[1] * seeded(layer, "popvariance", shape[-1]) + np.float32(1e-7)
        factor = (1 / np.sqrt(variance.astype(np.float64))).astype(np.float32) * gamma
        np.testing.assert_array_equal(arrays[node.input[1]], (weights * factor).transpose(3, 2, 0, 1))
        shift = small[0] * seeded(layer, "beta", shape[-1]) - small[0] * seeded(layer, "popmean", shape[-1]) * factor
        np.testing.assert_array_equal(arrays[node.input[2]], shift)


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
