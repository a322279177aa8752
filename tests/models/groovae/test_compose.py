"""The decoder's one Scan, and the whole way, do what their parts do that are stepped from outside."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.groovae import inputs
from models.groovae.inputs import DRUMS, LATENT
from tests.conftest import exact_session

VARIANTS = ("fp32", "fp16", "int8")


def session(path):
    return exact_session(path)


def answer(one, feed):
    return one.run(None, {port.name: feed[port.name] for port in one.get_inputs()})


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def stepped(folder, variant, z, uniforms, temperature):
    """The same decoder, written apart: NumPy around sessions of its two parts."""
    opening, step = (session(folder / f"{name}-{variant}.onnx") for name in ("opening", "step"))
    *states, share = opening.run(None, {"z": z})
    previous, drummed = np.zeros((len(z), 3 * DRUMS), np.float32), []
    for drawn in uniforms.transpose(1, 0, 2):
        raw, *states = step.run(None, dict(zip(("c0", "h0", "c1", "h1"), states), previous=previous, share=share))
        logits, velocities, offsets = np.split(raw, 3, axis=1)
        hits = sigmoid(logits / temperature) > drawn
        previous = np.concatenate([hits, sigmoid(velocities), np.tanh(offsets)], axis=1).astype(np.float32)
        drummed.append(previous)
    return np.stack(drummed, axis=1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_equals_its_own_parts_stepped(cast, variant):
    """So a rounded decoder runs its rounded parts, and the loop is the same around all."""
    feed = inputs.noise("stepped", 3, 20, 0.8)
    feed["z"] = feed["eps"]
    found = np.concatenate(answer(session(cast / f"groovae-decoder-{variant}.onnx"), feed), axis=2)
    expected = stepped(cast.parent / "quantize", variant, feed["z"], feed["uniforms"], 0.8)
    np.testing.assert_array_equal(found[..., :DRUMS], expected[..., :DRUMS])
    assert np.abs(found - expected).max() <= 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_whole_way_is_encoder_noise_and_decoder(cast, variant):
    feed = dict(inputs.noise("whole", 2, 32, 1.0), taps=inputs.rhythms("whole", 2, 32))
    encoder, decoder, groove = (session(cast / f"groovae-{name}-{variant}.onnx")
                                for name in ("encoder", "decoder", "groove"))
    mu, sigma = answer(encoder, feed)
    parts = np.concatenate(answer(decoder, dict(feed, z=mu + sigma * feed["eps"])), axis=2)
    np.testing.assert_allclose(answer(groove, feed)[0], parts, atol=1e-6)


@settings(max_examples=25)
@given(batch=st.integers(1, 4), time=st.integers(1, 70), temperature=st.floats(0, 2, width=32),
       seed=st.integers(0, 999))
def test_any_batch_and_length_give_drums_in_their_ranges(cast, batch, time, temperature, seed):
    feed = dict(inputs.noise(str(seed), batch, time, temperature), taps=inputs.rhythms(str(seed), batch, time))
    [found] = answer(session(cast / "groovae-groove-int8.onnx"), feed)
    assert found.shape == (batch, time, 27)
    hits, velocities, offsets = np.split(found, 3, axis=2)
    assert set(np.unique(hits)) <= {0, 1}
    assert velocities.min() >= 0 and velocities.max() <= 1 and np.abs(offsets).max() <= 1


def test_grooves_of_a_batch_do_not_touch(cast):
    feed = dict(inputs.noise("batch", 4, 32, 1.0), taps=inputs.rhythms("batch", 4, 32))
    one = session(cast / "groovae-groove-fp32.onnx")
    [together] = answer(one, feed)
    for number in range(4):
        alone = {name: array[number:number + 1] if array.ndim else array for name, array in feed.items()}
        np.testing.assert_allclose(answer(one, alone)[0][0], together[number], atol=1e-6)


def test_what_comes_later_does_not_change_what_was_drummed_of_a_z(cast):
    feed = inputs.noise("later", 2, 40, 1.0)
    feed["z"] = feed["eps"]
    one = session(cast / "groovae-decoder-fp32.onnx")
    whole, start = answer(one, feed), answer(one, dict(feed, uniforms=feed["uniforms"][:, :16]))
    for long, short in zip(whole, start):
        np.testing.assert_array_equal(long[:, :16], short)


def test_temperature_zero_takes_the_likelier_whatever_the_noise(cast):
    one = session(cast / "groovae-decoder-fp32.onnx")
    z = inputs.noise("cold", 2, 32, 0)["eps"]
    likeliest = answer(one, dict(inputs.neutral(2, 32), z=z))
    for name in ("one", "other"):
        noise = inputs.noise(name, 2, 32, 0)
        noise["uniforms"] = np.clip(noise["uniforms"], 1e-6, None)
        for found, expected in zip(answer(one, dict(noise, z=z)), likeliest):
            np.testing.assert_array_equal(found, expected)


def test_other_taps_make_other_drums(full_cast):
    one = session(full_cast / "groovae-groove-fp32.onnx")
    feed = dict(inputs.neutral(8, 32), taps=inputs.rhythms("other", 8, 32))
    [found] = answer(one, feed)
    assert len(np.unique(found[..., :DRUMS].reshape(8, -1), axis=0)) > 4


@pytest.mark.parametrize(("component", "variant", "operators"), [
    ("encoder", "fp32", {"Add": 2, "LSTM": 1, "MatMul": 2, "Reshape": 1, "Softplus": 1, "Transpose": 2}),
    ("encoder", "int8", {"Add": 2, "DynamicQuantizeLSTM": 1, "MatMulNBits": 2, "Reshape": 1, "Softplus": 1,
                         "Transpose": 2}),
])
def test_the_encoder_is_one_real_lstm(cast, component, variant, operators):
    nodes = [node.op_type for node in onnx.load(cast / f"groovae-{component}-{variant}.onnx").graph.node]
    assert {name: nodes.count(name) for name in sorted(set(nodes))} == operators


@pytest.mark.parametrize(("variant", "product"), [("fp32", "MatMul"), ("fp16", "MatMul"), ("int8", "MatMulNBits")])
def test_the_decoder_is_one_scan_of_three_products_a_step(cast, variant, product):
    """What follows from z alone is outside of the loop, and all weights of the loop lie in its body."""
    graph = onnx.load(cast / f"groovae-decoder-{variant}.onnx").graph
    [scan] = [node for node in graph.node if node.op_type == "Scan"]
    body = next(attribute.g for attribute in scan.attribute if attribute.name == "body")
    assert [node.op_type for node in graph.node].count(product) == 2
    assert [node.op_type for node in body.node].count(product) == 3
    outside = {name for node in body.node for name in node.input} - {
        name for node in body.node for name in node.output} - {
        *(tensor.name for tensor in body.initializer), *(port.name for port in body.input), ""}
    made = {name for node in graph.node for name in node.output if node.op_type != "Constant"}
    assert len(outside & made) == len(outside) == 2  # z's share of the gates, and the heat


def test_z_is_as_wide_as_the_ports_say(cast):
    [port] = [p for p in session(cast / "groovae-decoder-fp32.onnx").get_inputs() if p.name == "z"]
    assert port.shape == ["batch", LATENT]
