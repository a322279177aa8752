"""On the authors' own weights: what was played comes out, by FluidSynth's sound and mir_eval's count."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from models.mt3.notes import Note, Segment, Transcription, transcribe
from models.mt3.player import Transcriber, start
from models.mt3.vocabulary import CONFIGURATIONS
from tests.conftest import copy_tree, made, run
from tests.models.mt3 import music
from tests.models.mt3.conftest import HERE

CHORALE = "chorale, piano"


class Heard(NamedTuple):
    written: Transcription
    mel: np.ndarray  # what the encoder heard, float32 [segments, frames, 512]
    fed: np.ndarray  # what the decoder was fed, int64 [segments, steps]


@pytest.fixture(scope="module")
def cast(golden, tmp_path_factory) -> Path:
    """The artifacts that a user with the authors' files makes."""
    tree = copy_tree(tmp_path_factory.mktemp("released") / "tree")
    made("compose", "MODELS=mt3", f"CHECKPOINT={golden / 'mt3/released'}", cwd=tree)
    return tree / "build/custom/mt3/compose"


@pytest.fixture(scope="module")
def played(golden) -> dict[str, list[Note]]:
    return music.pieces(golden / "data/Jsb16thSeparated.npz")


@pytest.fixture(scope="module")
def sounds(played, tmp_path_factory) -> dict[str, np.ndarray]:
    if not shutil.which("fluidsynth") or not music.FONT.is_file():
        pytest.skip("NO FLUIDSYNTH: install fluidsynth and fluidr3mono-gm-soundfont")
    folder = tmp_path_factory.mktemp("sounds")
    return {piece: music.sound(notes, folder / f"{piece}.wav") for piece, notes in played.items()}


@pytest.fixture(scope="module")
def heard(cast, sounds) -> dict[str, dict[str, Heard]]:
    """All pieces by each variant, decoded as the original does."""
    return {variant: listen(Transcriber(cast, "mt3", variant), sounds) for variant in music.VARIANTS}


def listen(transcriber: Transcriber, sounds: Mapping[str, np.ndarray]) -> dict[str, Heard]:
    """What a transcriber writes of each piece, with what went into its network."""
    kept: dict[str, list[np.ndarray]] = {}

    def keeping(session: Any) -> SimpleNamespace:
        def answer(outputs: Sequence[str] | None, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
            found = session.run(outputs, feed)
            for name in {"mel", "tokens"} & feed.keys():
                kept.setdefault(name, []).append(feed[name])
            kept["written"] = [found[0]]
            return found
        return SimpleNamespace(run=answer)

    transcriber.sessions = {part: keeping(session) for part, session in transcriber.sessions.items()}
    told = {}
    for piece, sound in sounds.items():
        kept.clear()
        written = transcriber.transcribe([sound])
        [mel] = kept["mel"]
        told[piece] = Heard(written, mel, np.stack(kept["tokens"], axis=1) if "tokens" in kept
                            else np.pad(kept["written"][0], ((0, 0), (1, 0)))[:, :-1])
    return told


def by_flax(cast: Path, folder: Path, cases: Mapping[str, Heard], *alone: str) -> dict[str, Any]:
    """What Flax writes of the same: ask_music.py tells how."""
    np.savez(folder / "feed.npz", **{f"{case}/{part}": array for case, heard in cases.items()
                                     for part, array in (("mel", heard.mel), ("fed", heard.fed))})
    done = run("scripts/in", "jax", "python", HERE / "ask_music.py", cast.parent / "fetch", folder / "feed.npz", *alone)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def notes_of(rows: Sequence[Sequence[int] | None]) -> Transcription | None:
    """What segments say; nothing where one of them isn't known."""
    if any(row is None for row in rows):
        return None
    configuration = CONFIGURATIONS["mt3"]
    return transcribe([Segment(start(number, configuration.frames), row) for number, row in enumerate(rows)],
                      configuration)


def missed(scores: Mapping[str, Mapping[str, music.Scores]], played: Mapping[str, Sequence[Note]]) -> list[str]:
    """Where a lossy variant is worse than fp32 by more than 0.01 on pianos, 0.02 elsewhere, or a piano's onsets
    below 0.97.
    """
    found = []
    for piece, by_variant in scores.items():
        is_piano = all(note.program == music.PIANO and not note.is_drum for note in played[piece])
        measures = ("onset", "offset", "program") if music.several(played[piece]) else ("onset", "offset")
        found += [f"{piece}, {variant}: {measure} F1 {told[measure]:.3f}, fp32 has {by_variant['fp32'][measure]:.3f}"
                  for variant, told in by_variant.items() for measure in measures
                  if told[measure] < by_variant["fp32"][measure] - (0.01 if is_piano else 0.02)]
        found += [f"{piece}, {variant}: onset F1 {told['onset']:.3f}" for variant, told in by_variant.items()
                  if is_piano and told["onset"] < 0.97]
    return found


def scores_of(heard: Mapping[str, Mapping[str, Heard]], played: Mapping[str, Sequence[Note]]
              ) -> dict[str, dict[str, music.Scores]]:
    """By piece and variant."""
    told = music.compared({f"{piece} {variant}": (played[piece], found.written.notes)
                           for variant, by_piece in heard.items() for piece, found in by_piece.items()})
    return {piece: {variant: told[f"{piece} {variant}"] for variant in heard} for piece in heard["fp32"]}


def test_every_variant_writes_down_what_was_played(heard, played):
    scores = scores_of(heard, played)
    print(music.table(scores, played))
    assert len(scores) >= 8 and missed(scores, played) == []


def test_fp32_writes_flaxes_own_notes_of_every_piece(cast, heard, tmp_path):
    """Taught, and the chorale by itself from its first token to its last."""
    told = by_flax(cast, tmp_path, {f"beam {piece}": found for piece, found in heard["fp32"].items()},
                   f"beam {CHORALE}")
    for piece, found in heard["fp32"].items():
        answer = told[f"beam {piece}"]
        print(f"{piece}: what decided led by {answer['lead']:.2g} at least")
        assert notes_of(answer["tokens"]) == found.written, piece
    assert notes_of(told[f"alone beam {CHORALE}"]["tokens"]) == heard["fp32"][CHORALE].written


def test_one_graph_writes_the_chorale_down_too(cast, sounds, played, tmp_path):
    """The transcriber, the likeliest token each time: Flax's own in fp32."""
    found = {variant: listen(Transcriber(cast, "mt3", variant, "greedy"), {CHORALE: sounds[CHORALE]})
             for variant in music.VARIANTS}
    assert missed(scores_of(found, played), played) == []
    told = by_flax(cast, tmp_path, {f"greedy {CHORALE}": found["fp32"][CHORALE]})
    assert notes_of(told[f"greedy {CHORALE}"]["tokens"]) == found["fp32"][CHORALE].written


def test_int8_is_small(cast):
    sizes = {path.name: path.stat().st_size for path in cast.glob("mt3-*-int8.onnx")}
    assert len(sizes) == 3 and max(sizes.values()) <= 60e6
    assert sizes["mt3-encoder-int8.onnx"] + sizes["mt3-decoder-int8.onnx"] <= 60e6


# What they would tell


def planted(cast: Path, folder: Path, changes: Mapping[str, Callable[[str, np.ndarray], np.ndarray]]) -> Path:
    """A folder of the artifacts with the weights of some changed: each by what it makes of a name and an array."""
    for path in cast.glob("*.onnx"):
        (folder / path.name).symlink_to(path)
    for name, change in changes.items():
        model = onnx.load(cast / name)
        before = model.SerializeToString(deterministic=True)
        for tensor in model.graph.initializer:
            array = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(change(tensor.name, array), tensor.name))
        assert model.SerializeToString(deterministic=True) != before, name
        (folder / name).unlink()
        onnx.save(model, folder / name)
    return folder


def in_4_bits(name: str, array: np.ndarray) -> np.ndarray:
    """8-bit weights without their lower halves."""
    if array.dtype not in (np.int8, np.uint8):
        return array
    return np.clip(np.round(array / 16) * 16, np.iinfo(array.dtype).min, np.iinfo(array.dtype).max).astype(array.dtype)


def test_half_the_bits_are_heard(cast, heard, sounds, played, tmp_path):
    folder = planted(cast, tmp_path, {f"mt3-{part}-int8.onnx": in_4_bits for part in ("encoder", "decoder")})
    worse = listen(Transcriber(folder, "mt3", "int8"), {CHORALE: sounds[CHORALE]})
    found = missed(scores_of({"fp32": {CHORALE: heard["fp32"][CHORALE]}, "int8": worse}, played), played)
    print(found)
    assert found and all(line.startswith(f"{CHORALE}, int8: ") for line in found)


def test_a_frontend_that_hears_late_is_heard(cast, heard, sounds, played):
    """By 64 ms, half a frame of 2048 samples."""
    late = np.pad(sounds[CHORALE], (1024, 0))
    found = listen(Transcriber(cast, "mt3", "fp32"), {CHORALE: late})
    assert missed(scores_of({"fp32": found}, played), played) != []


def test_a_norm_one_percent_off_is_not_flaxes(cast, sounds, tmp_path):
    def change(name: str, array: np.ndarray) -> np.ndarray:
        return array * np.float32(1.01) if name == "decoder/layers_4/pre_mlp_layer_norm" else array

    folder = planted(cast, tmp_path, {"mt3-decoder-fp32.onnx": change})
    found = listen(Transcriber(folder, "mt3", "fp32"), {CHORALE: sounds[CHORALE]})
    [answer] = by_flax(cast, tmp_path, {f"beam {CHORALE}": found[CHORALE]}).values()
    assert notes_of(answer["tokens"]) is None
