"""The samplers' loop does what its own step does that is called from outside; and what is kept stays kept."""

import json

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.vampnet import inputs, sampling
from models.vampnet.inputs import MASK, WRITTEN
from scripts import graphs, job, recipe, verify
from tests.conftest import ROOT, exact_session
from tests.models.vampnet.test_sampling import run

VARIANTS = ("fp32", "fp16", "int8")


def session(folder, component, variant):
    return exact_session(folder / f"vampnet-{component}-{variant}.onnx")


def step_of(folder, part, variant):
    one = session(folder, part, variant)
    return lambda codes: one.run(None, {"codes": codes})[0]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("part", WRITTEN)
def test_the_loop_writes_what_its_step_does(cast, part, variant):
    """Code for code, in a batch, with each control turned."""
    sampler, step = session(cast, f"{part}-sampler", variant), step_of(cast, part, variant)
    for controls in (sampling.Controls(), sampling.Controls(0.7, 4.5, 0.4), sampling.Controls(sample_cutoff=-1),
                     sampling.Controls(typical_mass=0.2, typical_min_tokens=8), sampling.Controls(temperature=0)):
        feed = inputs.sampling(f"compose {controls}", part, 2, 31, 7)
        asked = feed["codes"], feed["mask"], feed["uniforms"], controls
        np.testing.assert_array_equal(run(sampler, *asked), sampling.generate(step, *asked))


@settings(max_examples=25)
@given(st.sampled_from(sorted(WRITTEN)), st.integers(1, 3), st.integers(1, 60), st.integers(1, 9), st.randoms())
def test_what_is_kept_stays_and_all_that_is_masked_is_written(cast, part, batch, time, steps, chance):
    codebooks, written = WRITTEN[part]
    codes, noise = inputs.codes("any", batch, codebooks, time), np.random.default_rng(chance.getrandbits(32))
    mask = (noise.random(codes.shape) < chance.random()).astype(np.int64)
    mask[:, :codebooks - written] = 0
    uniforms = noise.random((steps, 2, batch, written, time), np.float32)
    vamped = run(session(cast, f"{part}-sampler", "int8"), codes, mask, uniforms, sampling.Controls())
    assert vamped.shape == codes.shape and vamped.min() >= 0 and vamped.max() < MASK
    np.testing.assert_array_equal(vamped[mask == 0], codes[mask == 0])


def test_other_noise_writes_otherwise_and_the_same_the_same(cast):
    sampler, feeds = session(cast, "coarse-sampler", "int8"), [inputs.sampling(n, "coarse", 1, 40, 4) for n in "ab"]
    asked = feeds[0]["codes"], feeds[0]["mask"]
    told = [run(sampler, *asked, feed["uniforms"], sampling.Controls()) for feed in (feeds[0], feeds[1], feeds[0])]
    assert (told[0] != told[1]).any()
    np.testing.assert_array_equal(told[0], told[2])


def test_the_noise_at_its_ends_is_taken(cast):
    """0, and the largest float32 below 1."""
    feed = inputs.sampling("ends", "coarse", 1, 20, 3)
    for value in (0, 1 - 2**-24):
        uniforms = np.full_like(feed["uniforms"], value)
        for mass in (1.0, 0.2):
            controls = sampling.Controls(typical_mass=mass)
            vamped = run(session(cast, "coarse-sampler", "fp32"), feed["codes"], feed["mask"], uniforms, controls)
            assert vamped.max() < MASK


def test_a_step_is_a_few_large_operations(cast):
    """Fourteen a layer; the products of int8 in ONNX's own operators, and its attention in one."""
    nodes = [node.op_type for node in graphs.load(cast / "vampnet-coarse-fp32.onnx", weights=False).graph.node]
    assert nodes.count("MatMul") == 2 + 7 * 2 and nodes.count("Attention") == 2 and len(nodes) < 30 + 14 * 2
    model = graphs.load(cast / "vampnet-coarse-int8.onnx", weights=False)
    assert [node.op_type for node in model.graph.node].count("MatMulInteger") == 2 + 7 * 2
    assert {opset.domain for opset in model.opset_import} == {""}


def test_the_licence_is_told_wherever_the_weights_go(cast):
    """In each artifact, with whom to name and what else it asks, and in each stage's manifest."""
    for path in cast.glob("*.onnx"):
        told = {prop.key: prop.value for prop in graphs.load(path, weights=False).metadata_props}
        assert told["licence"] == "CC-BY-NC-SA-4.0" and told["sharing"] == "attribution, non-commercial, share alike"
        assert "H. Flores Garcia" in told["attribution"]
    manifests = [json.loads(path.read_text()) for path in cast.parent.glob("*/manifest.json")]
    assert {manifest["stage"] for manifest in manifests} == {path.parent.name for path in cast.parent.glob("*/*.json")}
    assert {manifest["settings"]["weights_licence"] for manifest in manifests} == {"CC-BY-NC-SA-4.0"}


# Planted defects


@pytest.fixture
def task(cast, tmp_path):
    """A verify job over a copy of the tiny artifacts, of the coarse transformer alone."""
    return verifying(cast, tmp_path, "coarse")


def verifying(cast, tmp_path, part):
    told = recipe.read(ROOT, "vampnet")
    told["components"] = {name: one for name, one in told["components"].items() if name.startswith(part)}
    told["gates"] = [gate for gate in told["gates"] if gate["component"] in told["components"]]
    (tmp_path / "compose").mkdir()
    for path in cast.glob(f"vampnet-{part}*"):
        (tmp_path / "compose" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "verify").mkdir()
    reads = {"compose": tmp_path / "compose", "export": cast.parent / "export", "ask": cast.parent / "ask"}
    return job.Job("vampnet", "tiny", told, reads, tmp_path / "verify", None)


def caught(task):
    with pytest.raises(job.Refusal) as refusal:
        verify.verify(task)
    return str(refusal.value)


def test_the_sound_artifacts_pass(task):
    verify.verify(task)


@pytest.mark.parametrize(("part", "variant", "array", "gate"), [
    ("encoder", "fp32", "encoder.block.2.block.1.block.1", "equality of codes: 0"),
    ("encoder", "fp16", "encoder.block.2.block.1.block.1.half", "equality of codes, frames: 0"),
    ("decoder", "fp32", "decoder.model.3.block.2.mrf_blocks.1.block.0.layer.1", "noise_ratio of audio"),
    ("decoder", "fp16", "decoder.model.3.block.2.mrf_blocks.1.block.0.layer.1.half", "snr_db of audio"),
    ("c2f", "fp32", "transformer.layers.1.self_attn.w_vs", "noise_ratio of logits"),
    ("c2f", "int8", "transformer.layers.1.self_attn.w_vs.byte", "snr_db of logits")])
def test_a_layer_that_is_turned_round_is_caught(cast, tmp_path, part, variant, array, gate):
    """Each part's own gate, by an array whose values are the other way round."""
    task = verifying(cast, tmp_path, part)
    path = tmp_path / f"compose/vampnet-{part}-{variant}.onnx"
    model = graphs.load(path)
    [tensor] = [tensor for tensor in model.graph.initializer if tensor.name == array]
    turned = onnx.numpy_helper.to_array(tensor)[::-1].copy()
    tensor.CopyFrom(onnx.numpy_helper.from_array(turned, array))
    rewrite(model, path)
    assert f"{path.name}: {gate}" in caught(task)


def rewrite(model, path):
    """Put a model and its weights in the place of others, with a hash that fits."""
    graphs.save(model, path, beside=True)
    told = {prop.key: prop.value for prop in model.metadata_props}
    onnx.helper.set_model_props(model, told | {"weights_sha256": verify.sha256(path.with_suffix(".weights"))})
    onnx.save(model, path)


def test_a_flipped_bit_in_the_weights_beside_is_caught_in_each_artifact_that_has_them(task):
    path = task.inputs["compose"] / "vampnet-coarse-int8.weights"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    said = caught(task)
    for name in ("vampnet-coarse-int8.onnx", "vampnet-coarse-sampler-int8.onnx"):
        assert f"{name}: expected the metadata weights_file and weights_sha256" in said


def test_missing_weights_are_caught(task):
    (task.inputs["compose"] / "vampnet-coarse-fp16.weights").unlink()
    assert "vampnet-coarse-fp16.onnx: onnx.checker refuses it" in caught(task)


def change(task, name, change):
    path = task.inputs["compose"] / name
    model = onnx.load(path, load_external_data=False)
    change(model)
    onnx.save(model, path)
    return caught(task)


def test_positions_that_are_looked_up_the_other_way_round_are_caught(task):
    def reverse(model):
        [tensor] = [tensor for tensor in model.graph.initializer if tensor.name == "distances"]
        table = onnx.numpy_helper.to_array(tensor, base_dir=str(task.inputs["compose"]))
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(table[:, ::-1]), "distances"))

    said = change(task, "vampnet-coarse-fp32.onnx", reverse)
    assert "noise_ratio of logits" in said and "argmax_mismatches of logits" in said


def test_a_schedule_that_ends_late_is_caught(task):
    def slow(model):
        [tensor] = [tensor for tensor in graphs.arrays(model) if not tensor.dims and np.isclose(
            onnx.numpy_helper.to_array(tensor), np.pi)]
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(2.5, np.float32), tensor.name))

    assert "equality of vamped" in change(task, "vampnet-coarse-sampler-fp32.onnx", slow)


@pytest.mark.parametrize("variant", ["fp16", "int8"])
def test_coarser_weights_are_caught(task, variant):
    path = task.inputs["compose"] / f"vampnet-coarse-{variant}.weights"
    model = graphs.load(path.with_suffix(".onnx"))
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype in (np.int8, np.float16) and array.ndim == 2:
            coarse = array // 32 * 32 if array.dtype == np.int8 else np.round(array * 64) / 64
            tensor.CopyFrom(onnx.numpy_helper.from_array(coarse.astype(array.dtype), tensor.name))
    rewrite(model, path.with_suffix(".onnx"))
    assert f"vampnet-coarse-{variant}.onnx: snr_db of logits" in caught(task)
