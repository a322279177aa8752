"""Against what Magenta's unmodified code returned elsewhere, and on real grooves, at the real size."""

import hashlib
import json

import mido
import numpy as np
import pytest

from models.groovae import drums, inputs, taps
from tests.conftest import copy_tree, exact_session, made, run
from tests.models.groovae.conftest import legacy
from tests.proven import skip_where_proven

VARIANTS = ("fp32", "fp16", "int8")
HITS = inputs.DRUMS


def answer(folder, component, variant, feed):
    session = exact_session(folder / f"groovae-{component}-{variant}.onnx")
    return session.run(None, {port.name: feed[port.name] for port in session.get_inputs()})


@pytest.fixture(scope="module")
def forward(golden):
    return dict(np.load(golden / "groovae/forward.npz"))


@pytest.fixture(scope="module")
def golden_checkpoint(golden, tmp_path_factory):
    """A checkpoint of the golden weights, and what it holds."""
    skip_where_proven("groovae")
    folder = tmp_path_factory.mktemp("checkpoint")
    return folder, json.loads(legacy("write_golden.py", folder))


@pytest.fixture(scope="module")
def golden_cast(golden_checkpoint, tmp_path_factory):
    """The artifacts cast from it."""
    tree = copy_tree(tmp_path_factory.mktemp("golden") / "tree")
    made("compose", "MODELS=groovae", f"CHECKPOINT={golden_checkpoint[0]}", cwd=tree)
    return tree / "build/custom/groovae/compose"


def test_the_golden_weights_are_the_golden_ones(golden, golden_checkpoint):
    """Every array, by the hash in weights.json: so the stream, the names and the shapes are the agreed ones."""
    assert golden_checkpoint[1] == json.loads((golden / "groovae/weights.json").read_text())["tensors"]


def test_the_cast_of_the_golden_weights_gives_the_golden_outputs(forward, golden_cast):
    """Bounds are a fifth of the golden README's."""
    feed = dict(inputs.neutral(4, 32), taps=forward["taps"], z=forward["decoder_z"])
    mu, sigma = answer(golden_cast, "encoder", "fp32", feed)
    assert np.abs(mu - forward["mu"]).max() <= 2e-6 and np.abs(sigma - forward["sigma"]).max() <= 2e-6
    found = np.concatenate(answer(golden_cast, "decoder", "fp32", feed), axis=2)
    np.testing.assert_array_equal(found[..., :HITS], forward["decoder_samples"][..., :HITS])
    assert np.abs(found - forward["decoder_samples"]).max() <= 2e-6
    [found] = answer(golden_cast, "groove", "fp32", feed)
    np.testing.assert_array_equal(found[..., :HITS], forward["samples"][..., :HITS])
    assert np.abs(found - forward["samples"]).max() <= 2e-6


@pytest.mark.parametrize("variant", ["fp16", "int8"])
def test_rounded_variants_agree_on_the_golden_grooves(forward, golden_cast, variant):
    [found] = answer(golden_cast, "groove", variant, dict(inputs.neutral(4, 32), taps=forward["taps"]))
    assert (found[..., :HITS] == forward["samples"][..., :HITS]).mean() >= 0.98


@pytest.mark.parametrize(("variant", "agreement", "bound"), [("fp32", 1, 5e-6), ("int8", 0.98, 1)])
def test_the_interpreter_gives_the_golden_outputs(forward, golden_cast, tmp_path, variant, agreement, bound):
    """The very file, run by TensorFlow Lite; and it is of builtin operators alone."""
    np.savez(tmp_path / "feed.npz", taps=forward["taps"], **inputs.neutral(4, 32))
    told, operators = json.loads(legacy("interpret.py", golden_cast / f"groovae-groove-{variant}.tflite",
                                        tmp_path / "feed.npz", tmp_path / "answer.npz"))
    found = np.load(tmp_path / "answer.npz")["drums"]
    assert (found[..., :HITS] == forward["samples"][..., :HITS]).mean() >= agreement
    assert np.abs(found - forward["samples"]).max() <= bound
    assert told["variant"] == variant and told["weights"] == "custom" and len(told["source_sha256"]) == 64
    assert "WHILE" in operators and not [name for name in operators if "CUSTOM" in name or "Flex" in name]


def test_golden_samples_make_the_golden_notes(golden, forward):
    """Pitch and velocity to the note, starts to 10 µs, but for those before the file's start."""
    strokes = drums.strokes_of(forward["samples"][:1])
    found = sorted((stroke.step * 0.125, drums.NOTES[stroke.drum], stroke.velocity) for stroke in strokes)
    expected = sorted((max(0, start), pitch, velocity) for pitch, start, _, velocity in forward["notes"])
    assert len(found) == len(expected) == 159
    np.testing.assert_allclose([note[0] for note in found], [note[0] for note in expected], atol=1e-5)
    assert [note[1:] for note in found] == [tuple(map(int, note[1:])) for note in expected]


# Real grooves


@pytest.fixture(scope="module")
def files(golden):
    found = sorted((golden / "data/groove").glob("*.mid"))
    assert len(found) == 5
    assert hashlib.sha256(found[0].read_bytes()).hexdigest().startswith("0c579a8e907ef5a9")
    return found


@pytest.fixture(scope="module")
def magentas(files, tmp_path_factory):
    """Taps of each file's whole pairs of bars, as Magenta's converter reads them."""
    path = tmp_path_factory.mktemp("taps") / "taps.npz"
    legacy("magenta_taps.py", path, *files)
    return dict(np.load(path))


def test_taps_of_real_grooves_are_those_of_magentas_converter(files, magentas):
    """A fill shorter than two bars gives Magenta none; here it is filled up with rests."""
    for path in files:
        ours, theirs = taps.read(path, None).windows(), magentas[path.stem]
        assert len(ours) == (1 if "fill" in path.name else len(theirs))
        assert np.abs(ours[:len(theirs)] - theirs.reshape(-1, 32, 27)).max(initial=0) <= 1e-6
    assert sum(map(len, magentas.values())) == 32


@pytest.fixture(scope="module")
def original(magentas, full_cast, tmp_path_factory):
    """32 real grooves: the feed, and what Magenta's session says to it."""
    folder = tmp_path_factory.mktemp("original")
    tapped = np.concatenate([array for array in magentas.values() if len(array)])
    feed = dict(inputs.neutral(len(tapped), 32), taps=tapped)
    np.savez(folder / "feed.npz", **feed)
    legacy("ask_original.py", full_cast.parent / "fetch", folder / "feed.npz", folder / "answer.npz")
    return feed, np.load(folder / "answer.npz")


@pytest.mark.parametrize(("variant", "agreement"), [("fp32", 1), ("fp16", 0.998), ("int8", 0.98)])
def test_real_grooves_are_drummed_as_magenta_drums_them(full_cast, original, variant, agreement):
    feed, told = original
    mu, _ = answer(full_cast, "encoder", variant, feed)
    [found] = answer(full_cast, "groove", variant, feed)
    agreed = (found[..., :HITS] == told["drums"][..., :HITS]).mean()
    print(f"{variant} on {len(found)} real grooves: {agreed:.4f} of hits agree, "
          f"max error of mu {np.abs(mu - told['mu']).max():.2g}, of drums {np.abs(found - told['drums']).max():.2g}")
    assert agreed >= agreement
    if variant == "fp32":
        assert np.abs(mu - told["mu"]).max() <= 2e-6 and np.abs(found - told["drums"]).max() <= 2e-6


@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_the_stand_ins_meet_the_bound_for_rounded_hits_that_trained_weights_must(full_cast, format):
    """The recipe's gate on the likeliest drums is wider, for networks that were hardly trained."""
    report = json.loads((full_cast.parent / "verify/report.json").read_text())
    rows = [row for artifact in report["artifacts"] for row in artifact["measured"]
            if artifact["file"] == f"groovae-groove-int8.{format}"]
    assert len(rows) == 4 and all(row["decision_agreement"] >= 0.98 for row in rows)


def test_a_real_recording_becomes_a_groove(golden, full_cast, tmp_path):
    """32 taps that fit 104.7 quarter notes a minute: a figure of eight sixteenths, eight times, so four bars."""
    out = tmp_path / "out.mid"
    done = run("make", "play", "MODEL=groovae", f"IN={golden / 'data/no_joe_tapped.wav'}", f"OUT={out}")
    assert done.returncode == 0, done.stderr
    assert "32 taps at 104.7 quarter notes a minute, estimated" in done.stderr
    file = mido.MidiFile(out)
    assert [sum(message.time for message in track) for track in file.tracks] == [4 * 4 * 480] * 2
    assert {message.note for message in file.tracks[1] if message.type == "note_on"} <= set(drums.NOTES)
