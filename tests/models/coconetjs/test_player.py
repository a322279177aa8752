"""Coconet's player with the artifacts of the edition for browsers."""

from pathlib import Path

import mido
import pytest

from models.coconet import player
from scripts.job import REFUSED
from tests.conftest import ROOT

MELODY = ROOT / "models/coconet/samples/old-hundredth.mid"


@pytest.fixture
def play(tiny, monkeypatch):
    monkeypatch.chdir(ROOT)

    def run(*words: str | Path, model: str = "coconetjs") -> int:
        return player.main(["--weights", "tiny", "--steps", "2", *map(str, words)], model=model)

    return run


@pytest.mark.parametrize("variant", ["fp32", "fp16", "int8"])
def test_a_melody_becomes_a_chorale_and_the_same_again(play, tmp_path, capsys, variant):
    for name in ("one.mid", "two.mid"):
        assert play(MELODY, tmp_path / name, "--variant", variant) == 0
    assert f"coconetjs-harmonizer-{variant}.onnx" in capsys.readouterr().out
    assert (tmp_path / "one.mid").read_bytes() == (tmp_path / "two.mid").read_bytes()
    assert len(mido.MidiFile(tmp_path / "one.mid").tracks) >= 4


def test_it_writes_other_voices_than_coconet(play, tmp_path):
    for model in ("coconet", "coconetjs"):
        assert play(MELODY, tmp_path / f"{model}.mid", model=model) == 0
    assert (tmp_path / "coconet.mid").read_bytes() != (tmp_path / "coconetjs.mid").read_bytes()


def test_a_picture_is_drawn(play, tmp_path):
    assert play(MELODY, tmp_path / "chorale.png") == 0
    assert (tmp_path / "chorale.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_variant_is_one_sentence(play, tmp_path, capsys):
    assert play(MELODY, tmp_path / "one.mid", "--variant", "int4") == REFUSED
    assert "cast it with make coconetjs" in capsys.readouterr().err
