"""Against what Magenta's unmodified code returned elsewhere, and on Bach's own chorales, at the real size."""

import hashlib
import json

import numpy as np
import onnx
import pytest

from models.coconet import inputs
from models.coconet.player import Harmonizer
from scripts import job, optimize, recipe, verify
from scripts.reference import EXACT
from tests.conftest import ROOT, exact_session, run
from tests.proven import skip_where_proven

HERE = ROOT / "tests/models/coconet"
LENGTH = 32


@pytest.fixture(scope="module")
def golden_cast(golden, tmp_path_factory):
    """The denoiser cast from a checkpoint of the golden weights, at 64 layers of 128 filters, and what that holds."""
    skip_where_proven("coconet")
    folder, told = tmp_path_factory.mktemp("golden"), recipe.read(ROOT, "coconet")
    for name in ("checkpoint", "export", "optimize"):
        (folder / name).mkdir()
    done = run("scripts/in", "legacy", "python", HERE / "cast_golden.py", folder / "checkpoint",
               golden / "coconet/hparams.json", folder / "export", told=json.dumps(told))
    assert done.returncode == 0, done.stderr
    optimize.optimize(job.Job("coconet", "custom", told, {"export": folder / "export"}, folder / "optimize", None))
    return folder / "optimize/denoiser.onnx", json.loads(done.stdout)


@pytest.mark.parametrize("case", ["", "gibbs_"])
def test_the_cast_of_the_golden_weights_gives_the_golden_outputs(golden, golden_cast, case):
    """Bounds are the golden README's; argmaxes are compared where the gap between the two highest exceeds 0.01."""
    expected = np.load(golden / "coconet/forward.npz")
    session = exact_session(golden_cast[0])
    logits, probabilities = session.run(
        ["logits", "probabilities"], {"pianorolls": expected["pianorolls"], "masks": expected[case + "masks"]})
    assert np.abs(logits - expected[case + "logits"]).max() <= 5e-3
    assert np.abs(probabilities - expected[case + "predictions"]).max() <= 5e-4
    ordered = np.sort(expected[case + "logits"], axis=2)
    clear = ordered[:, :, -1] - ordered[:, :, -2] > 0.01
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(logits.argmax(2)[clear], expected[case + "logits"].argmax(2)[clear])


def test_the_golden_weights_are_the_golden_ones(golden, golden_cast):
    """Every array, by the hash in weights.json: so the stream, the names and the shapes are the agreed ones."""
    expected = json.loads((golden / "coconet/weights.json").read_text())["tensors"]
    assert golden_cast[1] == expected


@pytest.fixture(scope="module")
def chorales(golden):
    """The test split of JSB Chorales that has no rests in its first 32 sixteenths: MIDI pitches [piece, 32, 4]."""
    path = golden / "data/Jsb16thSeparated.npz"
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith("2adcdf0d57880c37")
    pieces = np.load(path, allow_pickle=True, encoding="latin1")["test"]
    starts = [piece[:LENGTH] for piece in pieces if len(piece) >= LENGTH]
    whole = np.stack([start for start in starts if not np.isnan(start.astype(float)).any()]).astype(int)
    assert len(whole) > 40
    return whole


@pytest.fixture(scope="module")
def original(chorales, seeded, tmp_path_factory):
    """Eight chorales, harmonized and in mid-chain: the feed, and what TensorFlow says to it."""
    folder = tmp_path_factory.mktemp("original")
    rolls = inputs.to_rolls(chorales[:8])
    feed = {"pianorolls": np.concatenate([rolls, rolls]),
            "masks": np.concatenate([inputs.hide_lower_voices(rolls), inputs.hide_some(rolls, "jsb")])}
    np.savez(folder / "feed.npz", **feed)
    done = run("scripts/in", "legacy", "python", HERE / "ask_original.py", seeded.parent / "fetch",
               folder / "feed.npz", folder / "answer.npz")
    assert done.returncode == 0, done.stderr
    return feed, np.load(folder / "answer.npz")


@pytest.mark.parametrize("variant", ["fp32", "fp16", "int8"])
def test_the_denoiser_passes_its_gates_on_real_chorales(seeded, original, variant):
    feed, answer = original
    told = recipe.read(ROOT, "coconet")
    ports = {port["name"]: port for port in told["components"]["denoiser"]["outputs"]}
    found = exact_session(seeded / f"coconet-denoiser-{variant}.onnx").run(list(ports), feed)
    rows = [{"case": "chorales", "port": name, **verify.compare(
        answer[name], array, ports[name].get("classes"), feed["masks"], exact=answer[name + EXACT])}
        for name, array in zip(ports, found, strict=True)]
    gates = [verify.judge(gate, rows, {}) for gate in told["gates"]
             if (gate.get("component"), gate.get("variant")) == ("denoiser", variant)]
    assert len(gates) >= 2 and all(gate["passed"] for gate in gates), [gate["text"] for gate in gates]


@pytest.mark.parametrize("variant", ["fp32", "fp16", "int8"])
def test_sopranos_of_the_test_split_are_harmonized(seeded, chorales, variant):
    """Soprano bit for bit, one note a voice a step, in range, and the same on every run."""
    one = Harmonizer(seeded, variant)
    for soprano in chorales[:3, :, 0]:
        found = one.harmonize(soprano, seed=1, steps=8)
        np.testing.assert_array_equal(found[:, 0], soprano)
        assert found.shape == (LENGTH, 4) and found.min() >= 36 and found.max() <= 81
    np.testing.assert_array_equal(found, Harmonizer(seeded, variant).harmonize(soprano, seed=1, steps=8))


def test_the_composed_graph_gives_one_note_a_voice_a_step(seeded, chorales):
    rolls = inputs.to_rolls(chorales[:2])
    model = onnx.load(seeded / "coconet-harmonizer-int8.onnx", load_external_data=False)
    assert [port.name for port in model.graph.output] == ["harmonized"]
    (found,) = exact_session(model.SerializeToString()).run(None, {
        "pianorolls": rolls, "masks": inputs.hide_lower_voices(rolls), "temperature": np.array(1, np.float32),
        "steps": np.array(4), "uniforms": inputs.seeded_unit("jsb", (5, 2, 2, LENGTH, 4))})
    assert (found.sum(axis=2) == 1).all() and set(np.unique(found)) == {0, 1}
    np.testing.assert_array_equal(found[..., 0], rolls[..., 0])
