"""On the authors' own weights: what a piano plays comes out, by FluidSynth's sound and mir_eval's count."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.mt3.player import Transcriber
from tests.models.mt3 import music
from tests.models.mt3.defects import Weights, norm_off, plant
from tests.models.mt3.flaxes import by_flax, not_flaxes, notes_of
from tests.proven import on_record, skip_where_proven

CHORALE = "chorale, piano"
LOUD = (CHORALE, 1.0)  # the rendition that planted defects are heard in


@pytest.fixture(scope="module")
def sounds(played, tmp_path_factory) -> dict[music.Rendition, np.ndarray]:
    """The pianos; of what is on record the chorale alone, once."""
    pianos = {piece: notes for piece, notes in played.items() if music.is_piano(notes)}
    sounds = music.renditions({CHORALE: pianos[CHORALE]} if on_record("mt3") else pianos,
                              tmp_path_factory.mktemp("sounds"))
    return {LOUD: sounds[LOUD]} if on_record("mt3") else sounds


@pytest.fixture(scope="module")
def heard(released, sounds) -> dict[str, dict[music.Rendition, music.Heard]]:
    """What each variant writes down of them, decoded as the original does."""
    return {variant: music.listen(Transcriber(released, "mt3", variant), sounds) for variant in music.VARIANTS}


@pytest.fixture
def all_scores(request) -> music.Table:
    skip_where_proven("mt3")
    return request.getfixturevalue("scores")


def test_the_chorale_is_written_down_by_every_variant(heard, played):
    """At one loudness, of three that count."""
    loud = {variant: {LOUD: found[LOUD]} for variant, found in heard.items()}
    assert music.missed(music.scores_of(loud, played)[1.0], played) == []


def test_every_variant_writes_down_what_was_played(all_scores, played):
    assert len(all_scores) == 4 and music.missed(all_scores, played) == []


def test_the_card_tells_so(all_scores, played):
    music.hold_to_card(all_scores, played)


def test_fp32_writes_flaxes_own_notes(released, heard, tmp_path):
    """Of every piece that was heard: taught, and the chorale by itself from its first token to its last."""
    loud = {piece: found for (piece, loudness), found in heard["fp32"].items() if loudness == 1}
    assert not_flaxes(released, tmp_path, loud, CHORALE) == []


def test_one_graph_writes_the_chorale_down_too(released, sounds, played, tmp_path):
    """The transcriber, the likeliest token each time: Flax's own in fp32."""
    found = {variant: music.listen(Transcriber(released, "mt3", variant, "greedy"), {LOUD: sounds[LOUD]})
             for variant in music.VARIANTS}
    assert music.missed(music.scores_of(found, played)[1.0], played) == []
    told = by_flax(released, tmp_path, {f"greedy {CHORALE}": found["fp32"][LOUD]})
    assert notes_of(told[f"greedy {CHORALE}"]["tokens"]) == found["fp32"][LOUD].written


def test_int8_is_small(released):
    sizes = {path.name: path.stat().st_size for path in released.glob("mt3-*-int8.onnx")}
    assert len(sizes) == 3 and max(sizes.values()) <= 60e6
    assert sizes["mt3-encoder-int8.onnx"] + sizes["mt3-decoder-int8.onnx"] <= 60e6


# What they would tell


def planted(cast: Path, folder: Path, change: Callable[[Weights], Weights], *names: str) -> Path:
    """A folder of the artifacts, in which those named have some of their arrays changed."""
    for path in cast.glob("*.onnx"):
        if path.name in names:
            plant(change, path, folder / path.name)
        else:
            (folder / path.name).symlink_to(path)
    return folder


def in_4_bits(weights: Weights) -> Weights:
    """8-bit weights without their lower halves."""
    def halved(array: np.ndarray) -> np.ndarray:
        bounds = np.iinfo(array.dtype)
        return np.clip(np.round(array / 16) * 16, bounds.min, bounds.max).astype(array.dtype)

    return {name: halved(array) for name, array in weights.items() if array.dtype in (np.int8, np.uint8)}


def test_half_the_bits_are_heard(released, heard, sounds, played, tmp_path):
    folder = planted(released, tmp_path, in_4_bits, "mt3-encoder-int8.onnx", "mt3-decoder-int8.onnx")
    worse = music.listen(Transcriber(folder, "mt3", "int8"), {LOUD: sounds[LOUD]})
    scores = music.scores_of({"fp32": {LOUD: heard["fp32"][LOUD]}, "int8": worse}, played)[1.0]
    found = music.missed(scores, played)
    print(found)
    assert found and all(line.startswith(f"{CHORALE}, int8: ") for line in found)


def test_a_frontend_that_hears_late_is_heard(released, sounds, played):
    """By 64 ms, half a frame of 2048 samples."""
    late = np.pad(sounds[LOUD], (1024, 0))
    found = music.listen(Transcriber(released, "mt3", "fp32"), {LOUD: late})
    assert music.missed(music.scores_of({"fp32": found}, played)[1.0], played) != []


def test_a_norm_one_percent_off_is_not_flaxes(released, sounds, tmp_path):
    folder = planted(released, tmp_path, functools.partial(norm_off, "decoder"), "mt3-decoder-fp32.onnx")
    found = music.listen(Transcriber(folder, "mt3", "fp32"), {LOUD: sounds[LOUD]})
    [answer] = by_flax(released, tmp_path, {f"beam {CHORALE}": found[LOUD]}).values()
    assert notes_of(answer["tokens"]) is None
