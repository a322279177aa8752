"""What the player promises: a melody in from MIDI; chords out as MIDI, as a chart, as a picture."""

import itertools
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import mido
import numpy as np
import pytest

from models.harmonizer import chart, player
from models.harmonizer.beats import beats_of
from models.harmonizer.chords import NAMES, TONES, number
from models.harmonizer.player import Harmonizer, Suggestion, spans
from scripts.job import REFUSED, Refusal
from scripts.manifest import sha256
from scripts.midi import timed, track_of
from scripts.tune import Note, Sign, Tune, sounding
from tests.conftest import made

ROOT = Path(__file__).resolve().parents[3]
OLD_HUNDREDTH = ROOT / "models/coconet/samples/old-hundredth.mid"
TICKS = 480


@pytest.fixture(scope="module")
def harmonizer(bundled: Path) -> Harmonizer:
    return Harmonizer(bundled)


@pytest.fixture
def play(bundled: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command; returns its exit status."""
    monkeypatch.chdir(bundled.parents[3])
    return lambda *arguments: player.main([*map(str, arguments)])


def file_of(path: Path, pitches: Sequence[int | None], start: int = 0, ticks: int = TICKS) -> Path:
    """A melody in quarters from a sixteenth on, None for a rest."""
    events = [(0, mido.MetaMessage("time_signature", numerator=3, denominator=4))]
    for place, pitch in enumerate(pitches):
        if pitch is not None:
            tick = start * ticks // 4 + place * ticks
            events += [(tick, mido.Message("note_on", note=pitch)),
                       (tick + ticks, mido.Message("note_off", note=pitch))]
    mido.MidiFile(type=0, ticks_per_beat=ticks, tracks=[track_of(events, events[-1][0])]).save(path)
    return path


def notes_of(path: Path, part: int) -> list[tuple[int, int, int]]:
    """(start, end, pitch) of a part's notes, in ticks."""
    return of_track(mido.MidiFile(path).tracks[part])


def of_track(track: mido.MidiTrack) -> list[tuple[int, int, int]]:
    return sorted(note for notes in sounding(list(timed(track, 1))) for note in notes)


def test_writes_the_melody_note_for_note_and_block_chords(play, tmp_path):
    assert play(OLD_HUNDREDTH, tmp_path / "out.mid") == 0
    [own] = filter(None, map(of_track, mido.MidiFile(OLD_HUNDREDTH).tracks))
    assert notes_of(tmp_path / "out.mid", 1) == own
    assert [track.name for track in mido.MidiFile(tmp_path / "out.mid").tracks[1:]] == ["Melody", "Chords"]
    chords = notes_of(tmp_path / "out.mid", 2)
    sounds = [(span, sorted(note[2] for note in notes))
              for span, notes in itertools.groupby(chords, key=lambda note: note[:2])]
    assert all(pitches[0] >= 48 and pitches[-1] <= 67 and len(pitches) in (3, 4) for _, pitches in sounds)
    edges = [span for span, _ in sounds]
    assert edges[0][0] == 0 and all(one[1] == other[0] for one, other in itertools.pairwise(edges))
    assert all(one[1] != other[1] for one, other in itertools.pairwise(sounds)), "equal chords are joined"


def test_old_hundredth_begins_and_ends_on_its_tonic(harmonizer):
    tune = player.read_tune(OLD_HUNDREDTH, player.PITCHES, player.EXAMPLE)
    suggestions = harmonizer.suggest(tune.melody())
    assert suggestions[0][0].chord == "G" and suggestions[-1][0].chord == "G"


def test_a_melody_moved_is_answered_by_chords_moved(harmonizer):
    """The training moved the melodies through twelve keys: nearly every answer moves along."""
    melody = player.read_tune(OLD_HUNDREDTH, player.PITCHES, player.EXAMPLE).melody()
    moved = [harmonizer.suggest(melody + steps, count=1) for steps in (0, 3)]
    same = [number(a.chord) // 12 == number(b.chord) // 12 and (number(a.chord) + 3) % 12 == number(b.chord) % 12
            for [a], [b] in zip(*moved)]
    assert np.mean(same) >= 0.8


@pytest.mark.parametrize("length", [1, 3, 4, 5, 64, 511, 512, 513, 2000])
def test_a_melody_of_any_length_is_answered_beat_by_beat(harmonizer, length):
    suggestions = harmonizer.suggest(np.resize(np.repeat([67, 66, 64, 62, 0], 4), length))
    assert len(suggestions) == -(-length // 4)
    assert all(one.probability >= other.probability for best in suggestions for one, other in itertools.pairwise(best))


def test_windows_answer_what_the_whole_does(harmonizer, monkeypatch):
    """Beside a window's edges a chord may turn where two are nearly as likely."""
    melody = np.resize(player.read_tune(OLD_HUNDREDTH, player.PITCHES, player.EXAMPLE).melody(), 1000)
    windows = harmonizer.probabilities(melody)
    monkeypatch.setattr(player, "WINDOW", 1000)
    assert (windows.argmax(axis=1) == harmonizer.probabilities(melody).argmax(axis=1)).mean() >= 0.95


def test_probabilities_of_all_chords_make_one(harmonizer):
    [beat] = harmonizer.suggest(np.array([60, 60, 60, 60]), count=60)
    assert sum(chord.probability for chord in beat) == pytest.approx(1)
    assert {chord.chord for chord in beat} == set(NAMES)


@pytest.mark.parametrize(("melody", "told"), [
    ([54], "found 54"), ([88], "found 88"), ([], "integers in a row"), ([60.5], "float64"), ([[60]], r"\[1, 1\]"),
])
def test_another_melody_is_refused(harmonizer, melody, told):
    with pytest.raises(Refusal, match=told):
        harmonizer.suggest(np.array(melody))


def test_equal_chords_in_a_row_are_one_and_the_last_ends_with_the_melody():
    beats = [[Suggestion(name, 1)] for name in ("C", "C", "G", "C")]
    assert spans(beats_of(tune_in([], [60] * 14)), beats) == [(0, 8, "C"), (8, 12, "G"), (12, 14, "C")]


def test_the_chart_goes_bar_by_bar_with_alternatives(play, tmp_path):
    melody = file_of(tmp_path / "melody.mid", [67, 72, 74, 76, 74, None, 72])
    assert play(melody, tmp_path / "out.txt") == 0
    text = (tmp_path / "out.txt").read_text()
    head, _, grid, _, columns, *rows = text.splitlines()
    assert head.startswith("melody.mid, harmonizer-chords-int8.onnx (sha256 ") and columns.startswith(" bar  beat")
    assert grid.count("|") == 4, "three bars of 3/4"
    assert [row.split()[:2] for row in rows] == [[str(1 + n // 3), str(1 + n % 3)] for n in range(7)]
    assert all(row.count("%") == 3 for row in rows)


def test_a_chord_that_goes_on_is_a_dot():
    sign = Sign(0, mido.MetaMessage("time_signature", numerator=2, denominator=4))
    tune = Tune((Note(0, 16, 60),), 16, 120, (sign,), ())
    lines = list(chart.lines(beats_of(tune), [[(name, 0.5)] for name in ("C", "C", "C", "G7")], "title"))
    assert lines[2] == "   1 | C .  | C G7 |"


@pytest.mark.parametrize("start", [0, 1, 4])
def test_rests_and_upbeats_are_taken(play, tmp_path, start):
    melody = file_of(tmp_path / "melody.mid", [None, 67, 72, None, 72], start)
    assert play(melody, tmp_path / "out.mid") == 0
    assert [pitch for _, _, pitch in notes_of(tmp_path / "out.mid", 1)] == [67, 72, 72]


def test_a_low_melody_is_moved_and_that_is_said(play, tmp_path, capsys):
    assert play(file_of(tmp_path / "melody.mid", [40, 45]), tmp_path / "out.mid") == 0
    assert "moved 2 octaves up into G3 to E♭6" in capsys.readouterr().err


def tune_in(meters: Sequence[tuple[int, int, int]], pitches: Sequence[int]) -> Tune:
    """Sixteenths in meters of (its first sixteenth, numerator, denominator)."""
    signs = tuple(Sign(120 * step, mido.MetaMessage("time_signature", numerator=above, denominator=below))
                  for step, above, below in meters)
    notes = tuple(Note(step, step + 1, pitch) for step, pitch in enumerate(pitches) if pitch)
    return Tune(notes, len(pitches), 120, signs, ())


@pytest.mark.parametrize(("meters", "length", "starts"), [
    ([(0, 4, 4)], 24, [0, 4, 8, 12, 16, 20]),
    ([(0, 1, 4), (4, 3, 4)], 16, [0, 4, 8, 12]),
    ([(0, 1, 8), (2, 4, 4)], 20, [0, 2, 6, 10, 14, 18]),
    ([(0, 6, 8)], 24, [0, 6, 12, 18]),
    ([(0, 3, 8)], 18, [0, 6, 12]),
    ([(0, 9, 8)], 36, [0, 6, 12, 18, 24, 30]),
    ([(0, 12, 8), (24, 2, 4)], 32, [0, 6, 12, 18, 24, 28]),
    ([(0, 1, 8), (2, 6, 8)], 14, [0, 2, 8]),
    ([(0, 4, 8), (8, 6, 8)], 20, [0, 2, 8, 14]),
    ([(0, 7, 8)], 28, [0, 4, 8, 12, 14, 18, 22, 26]),
    ([(0, 3, 16)], 6, [0, 3]),
    ([], 6, [0, 4]),
])
def test_a_chord_begins_with_each_beat_of_the_meter(meters, length, starts):
    beats = beats_of(tune_in(meters, [60] * length))
    assert [beat.start for beat in beats] == starts
    assert [beat.end for beat in beats] == [*starts[1:], length]


def test_a_short_upbeat_is_heard_as_a_beat_that_begins_with_a_rest(harmonizer):
    """As notation programs write it: a bar of its own before the others."""
    melody = player.read_tune(OLD_HUNDREDTH, player.PITCHES, player.EXAMPLE).melody()[2:68]
    upbeat = tune_in([(0, 1, 8), (2, 4, 4)], melody)
    np.testing.assert_allclose(harmonizer.of_beats(melody, beats_of(upbeat)),
                               harmonizer.probabilities(np.pad(melody, (2, 0))), rtol=1e-9)


def test_a_dotted_beat_has_the_chord_that_its_quarters_make_likeliest_together(harmonizer):
    """Whole bars of one chord's notes in 6/8: G, D, G as arpeggios."""
    bars = ((67, 71, 74, 79, 74, 71), (62, 66, 69, 74, 69, 66), (67, 71, 74, 79, 79, 79))
    tune = tune_in([(0, 6, 8)], np.repeat(np.ravel(bars), 2))
    found = [best[0].chord for best in harmonizer.suggest(tune.melody(), beats=beats_of(tune))]
    assert found == ["G", "G", "D", "D", "G", "G"]


def test_quarters_as_beats_are_what_the_model_hears_by_itself(harmonizer):
    tune = player.read_tune(OLD_HUNDREDTH, player.PITCHES, player.EXAMPLE)
    np.testing.assert_allclose(harmonizer.of_beats(tune.melody(), beats_of(tune)),
                               harmonizer.probabilities(tune.melody()), rtol=1e-9)


def test_draws_a_picture(play, tmp_path):
    assert play(OLD_HUNDREDTH, tmp_path / "out.png") == 0
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_says_by_hash_what_plays(play, tmp_path, harmonizer, capsys):
    play(OLD_HUNDREDTH, tmp_path / "out.mid")
    assert harmonizer.artifact.sha256[:12] in capsys.readouterr().out


@pytest.fixture
def assets(bundled: Path, tmp_path: Path) -> Path:
    """An artifact as a release has it, with the sums beside it."""
    folder = tmp_path / "a release"
    folder.mkdir()
    artifact = Path(shutil.copy(bundled / "harmonizer-chords-int8.onnx", folder))
    (folder / "SHA256SUMS").write_text(f"{sha256(artifact)}  {artifact.name}\n")
    return folder


def test_a_releases_assets_play_as_the_build_does(play, assets, tmp_path, monkeypatch):
    assert play(OLD_HUNDREDTH, tmp_path / "one.mid") == 0
    monkeypatch.chdir(tmp_path)
    assert play(OLD_HUNDREDTH, "other.mid", "--artifacts", assets) == 0
    assert (tmp_path / "one.mid").read_bytes() == (tmp_path / "other.mid").read_bytes()


@pytest.mark.parametrize(("sums", "told"), [
    (f"{'0' * 64}  harmonizer-chords-int8.onnx\n", "expected the SHA-256 that SHA256SUMS beside it has, found another"),
    ("", "expected the SHA-256 that SHA256SUMS beside it has, found none there"), ("no sum\n", "found 'no sum'"),
])
def test_assets_that_their_sums_do_not_have_are_refused(play, assets, tmp_path, capsys, sums, told):
    (assets / "SHA256SUMS").write_text(sums)
    assert play(OLD_HUNDREDTH, tmp_path / "out.mid", "--artifacts", assets) == REFUSED
    assert told in capsys.readouterr().err and not (tmp_path / "out.mid").exists()


def test_a_folder_of_assets_that_is_not_there_is_refused(play, tmp_path, capsys):
    assert play(OLD_HUNDREDTH, tmp_path / "out.mid", "--artifacts", tmp_path / "none") == REFUSED
    assert "expected a folder with a release's assets, found none" in capsys.readouterr().err


def test_make_takes_every_character_of_a_path_and_works_from_another_folder(bundled, assets, tmp_path):
    """Of a $ it would make a reference, and of a space two words. The assets of a release lie in a folder with one."""
    melody = Path(shutil.copy(OLD_HUNDREDTH, tmp_path / "a$b $(c) 'd' \"e\" #f;&%ü.mid"))
    made("-C", str(ROOT), "play", "MODEL=harmonizer", f"ARTIFACTS={assets}", f"IN={melody}",
         f"OUT={tmp_path}/$out $$.txt", cwd=tmp_path)
    assert (tmp_path / "$out $$.txt").read_text().startswith(melody.name)


def test_another_suffix_is_refused(play, tmp_path, capsys):
    assert play(OLD_HUNDREDTH, tmp_path / "out.pdf") == REFUSED
    assert "expected a name that ends in .mid, .midi, .txt or .png" in capsys.readouterr().err


def test_the_same_melody_gives_the_same_bytes(play, tmp_path):
    for name in ("one.mid", "other.mid"):
        play(OLD_HUNDREDTH, tmp_path / name)
    assert (tmp_path / "one.mid").read_bytes() == (tmp_path / "other.mid").read_bytes()


def test_the_notes_of_a_chord_are_its_own():
    notes = player.chord_notes([(0, 8, "F#m7")])
    assert {note.pitch % 12 for note in notes} == set(TONES[number("F#m7")])


def test_the_python_in_the_card_runs(bundled, monkeypatch):
    monkeypatch.chdir(bundled.parents[3])
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "models/harmonizer/README.md").read_text(), re.DOTALL)
    told: dict = {}
    exec(code, told)
    assert len(told["chords"]) == 8 and all(len(best) == 3 for best in told["chords"])
