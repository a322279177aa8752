"""The Gibbs chain as one graph does what the chain does that is stepped from outside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.coconet import inputs
from tests.conftest import exact_session

VARIANTS = ("fp32", "fp16", "int8")


def session(folder, component, variant):
    return exact_session(folder / f"coconet-{component}-{variant}.onnx")


def harmonize(one, rolls, masks, uniforms, temperature, steps):
    return one.run(None, {"pianorolls": rolls, "masks": masks, "uniforms": uniforms,
                          "temperature": np.array(temperature, np.float32), "steps": np.array(steps)})[0]


def stepped(denoiser, rolls, masks, uniforms, temperature, steps):
    """The same chain, written apart: NumPy around a session of the denoiser."""
    current = rolls
    for number in range(steps + 1):
        share = 2.0 if number == 0 else max(0.1, 0.9 - 0.8 * (number - 1) / steps / 0.7)
        hidden = np.broadcast_to((uniforms[number, 0] < share)[:, :, None, :], rolls.shape) * masks
        logits, _ = denoiser.run(None, {"pianorolls": current, "masks": hidden.astype(np.float32)})
        scaled = (logits.astype(np.float64) - logits.max(axis=2, keepdims=True)) / temperature
        cumulative = np.cumsum(np.exp(scaled), axis=2)
        chosen = (cumulative <= uniforms[number, 1][:, :, None, :] * cumulative[:, :, -1:]).sum(axis=2)
        sample = np.eye(46, dtype=np.float32)[np.minimum(chosen, 45)].transpose(0, 1, 3, 2)
        current = np.where(hidden > 0, sample, current)
    return current


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_equals_its_own_denoiser_stepped(tiny, variant):
    """So a quantized harmonizer runs its quantized denoiser, and the loop is the same around all."""
    rolls = inputs.to_rolls(inputs.progressions("stepped", 2, 16))
    uniforms = inputs.seeded_unit("stepped", (21, 2, 2, 16, 4))
    arguments = rolls, inputs.hide_some(rolls, "stepped"), uniforms, 0.8, 20
    found = harmonize(session(tiny, "harmonizer", variant), *arguments)
    np.testing.assert_array_equal(found, stepped(session(tiny, "denoiser", variant), *arguments))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_real_size_equals_its_denoiser_stepped(seeded, variant):
    rolls = inputs.to_rolls(inputs.progressions("stepped", 1, 16))
    uniforms = inputs.seeded_unit("stepped", (9, 2, 1, 16, 4))
    arguments = rolls, inputs.hide_lower_voices(rolls), uniforms, 1.0, 8
    found = harmonize(session(seeded, "harmonizer", variant), *arguments)
    np.testing.assert_array_equal(found, stepped(session(seeded, "denoiser", variant), *arguments))


@settings(max_examples=25)
@given(batch=st.integers(1, 3), time=st.integers(1, 40), steps=st.integers(0, 5), temperature=st.floats(0, 2, width=32),
       seed=st.integers(0, 2**32))
def test_given_notes_are_kept_and_hidden_ones_written(tiny, batch, time, steps, temperature, seed):
    rolls = inputs.to_rolls(inputs.progressions(str(seed), batch, time))
    masks = inputs.hide_some(rolls, str(seed))
    uniforms = inputs.seeded_unit(str(seed), (steps + 1, 2, batch, time, 4))
    found = harmonize(session(tiny, "harmonizer", "int8"), rolls, masks, uniforms, temperature, steps)
    np.testing.assert_array_equal(found[masks == 0], rolls[masks == 0])
    assert set(np.unique(found)) <= {0, 1} and (found.sum(axis=2) == 1).all()


def test_what_hidden_cells_hold_does_not_matter(tiny):
    rolls = inputs.to_rolls(inputs.progressions("cells", 1, 16))
    masks = inputs.hide_lower_voices(rolls)
    arguments = masks, inputs.seeded_unit("cells", (4, 2, 1, 16, 4)), 1.0, 3
    one = session(tiny, "harmonizer", "fp32")
    np.testing.assert_array_equal(harmonize(one, rolls, *arguments), harmonize(one, rolls * (1 - masks), *arguments))


def test_temperature_zero_takes_the_most_probable_pitch_whatever_the_noise(tiny):
    rolls = inputs.to_rolls(inputs.progressions("cold", 1, 16))
    masks = inputs.hide_lower_voices(rolls)
    logits, _ = session(tiny, "denoiser", "fp32").run(None, {"pianorolls": rolls, "masks": masks})
    one = session(tiny, "harmonizer", "fp32")
    for noise in ("one", "other"):
        found = harmonize(one, rolls, masks, inputs.seeded_unit(noise, (1, 2, 1, 16, 4)), 0, 0)
        np.testing.assert_array_equal(found.argmax(2)[..., 1:], logits.argmax(2)[..., 1:])


def test_the_largest_uniform_stays_within_the_pitches(tiny):
    rolls = inputs.to_rolls(inputs.progressions("edge", 1, 8))
    largest = np.full((1, 2, 1, 8, 4), np.nextafter(np.float32(1), np.float32(0)))
    found = harmonize(session(tiny, "harmonizer", "fp32"), rolls, inputs.hide_lower_voices(rolls), largest, 1.0, 0)
    assert (found.sum(axis=2) == 1).all()
