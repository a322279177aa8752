"""What Magenta's own music_vae_train writes: taps are cast, other configurations are named."""

import json

import pytest

from tests.conftest import refused, run
from tests.models.groovae.conftest import legacy

TAPS = "groovae_2bar_tap_fixed_velocity"
OTHERS = ["groovae_4bar", "groovae_2bar_humanize", "groovae_2bar_add_closed_hh"]


@pytest.fixture(scope="module")
def runs(golden, tmp_path_factory):
    """A folder with a training run a configuration, on a TFRecord of real drum MIDI, and what reading them says."""
    folder = tmp_path_factory.mktemp("runs")
    files = sorted((golden / "data/groove").glob("*eval_session*.mid"))
    return folder, json.loads(legacy("train.py", folder, ",".join([TAPS, f"{TAPS}_note_dropout", *OTHERS]), *files))


@pytest.mark.parametrize("name", [TAPS, f"{TAPS}_note_dropout"])
def test_a_run_on_taps_has_the_networks_17_arrays(runs, name):
    assert len(runs[1][name]) == 17 and "global_step" in runs[1][name]


@pytest.mark.parametrize("other", OTHERS)
def test_a_run_of_another_configuration_is_named(runs, other):
    """Their arrays have the same names and shapes; what the encoder was trained on tells them apart."""
    assert f"found one of {other}" in runs[1][other] and "not on taps" in runs[1][other]


def test_a_run_on_taps_is_cast_whole(runs, tree, tmp_path):
    """Through every gate: a user's own training is a valid source."""
    (runs[0] / TAPS).rename(tmp_path / "run")
    done = run("make", "groovae", f"CHECKPOINT={tmp_path / 'run'}", cwd=tree)
    assert done.returncode == 0, done.stderr
    assert "groovae-groove   int8 tflite" in done.stdout
    manifest = json.loads((tree / "build/custom/groovae/fetch/manifest.json").read_text())
    assert {file["file"] for file in manifest["outputs"]} == {
        "model.ckpt-2.index", "model.ckpt-2.data-00000-of-00001", "model.ckpt-2.meta"}


def test_a_run_of_another_configuration_is_refused_in_a_line(runs, tree, tmp_path):
    (runs[0] / "groovae_4bar").rename(tmp_path / "run")
    assert "found one of groovae_4bar" in refused("groovae", f"CHECKPOINT={tmp_path / 'run'}", cwd=tree)
    assert not (tree / "build/custom/groovae/export").exists()
