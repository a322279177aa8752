"""What the drummer's player promises: taps in, as MIDI or as a recording; drums out."""

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from models.groovae import drums, inputs, player, taps
from models.groovae.drums import NOTES, Stroke
from models.groovae.player import Drummer
from models.groovae.taps import Tempo
from models.groovae.tempo import estimate_tempo, on_grid
from scripts.job import REFUSED, Refusal
from scripts.midi import timed, track_of
from scripts.seeded import seeded_uniform
from tests.conftest import ROOT, run
from tests.models.groovae.conftest import HERE

SAMPLES = ROOT / "models/groovae/samples"
TICKS = 480
CLAVE = [0, 3, 6, 10, 12, 18, 20, 24, 27, 30]


def tapped(path: Path, steps: Sequence[float], signs: Sequence[tuple[int, mido.MetaMessage]] = (), pitch: int = 60,
           velocity: int = 90) -> Path:
    """A MIDI file of a note at each of the given sixteenths."""
    events = [(tick, 0, sign) for tick, sign in signs]
    for step in steps:
        tick = round(step * TICKS / 4)
        events += [(tick, 2, mido.Message("note_on", note=pitch, velocity=velocity)),
                   (tick + 30, 1, mido.Message("note_off", note=pitch))]
    events.sort(key=lambda event: event[:2])
    track = track_of([(tick, message) for tick, _, message in events], events[-1][0] if events else 0)
    mido.MidiFile(type=0, ticks_per_beat=TICKS, tracks=[track]).save(path)
    return path


@pytest.fixture
def clave(tmp_path: Path) -> Path:
    return tapped(tmp_path / "clave.mid", CLAVE)


@pytest.fixture
def play(cast: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command, on the tiny artifacts; returns its exit status."""
    monkeypatch.chdir(ROOT)
    return lambda *words: player.main(["--weights", "tiny", *map(str, words)])


def length_of(track: mido.MidiTrack) -> int:
    return sum(message.time for message in track)


# The music that comes out


def test_writes_drums_of_general_midi_on_their_channel(play, clave, tmp_path):
    assert play(clave, tmp_path / "out.mid") == 0
    file = mido.MidiFile(tmp_path / "out.mid")
    assert file.type == 1 and file.tracks[1].name == "Drums"
    notes = [message for message in file.tracks[1] if message.type in ("note_on", "note_off")]
    assert {message.channel for message in notes} == {9}
    assert {message.note for message in notes} <= set(NOTES)
    assert all(1 <= message.velocity <= 127 for message in notes if message.type == "note_on")


@pytest.mark.parametrize(("last", "bars"), [(0, 2), (31.4, 2), (31.6, 4), (32, 4), (100, 8)])
def test_drums_fill_whole_pairs_of_bars(play, tmp_path, last, bars, capsys):
    """A tap that opens two more by being a little early is told of."""
    assert play(tapped(tmp_path / "taps.mid", [0, last]), tmp_path / "out.mid") == 0
    assert ("the last tap is a little ahead of bar 3, where it counts" in capsys.readouterr().err) == (last == 31.6)
    assert [length_of(track) for track in mido.MidiFile(tmp_path / "out.mid").tracks] == [bars * 4 * TICKS] * 2


def test_keeps_every_tempo_at_its_place(play, tmp_path):
    signs = [(0, mido.MetaMessage("set_tempo", tempo=400000)), (960, mido.MetaMessage("set_tempo", tempo=600000))]
    assert play(tapped(tmp_path / "taps.mid", CLAVE, signs), tmp_path / "out.mid") == 0
    conductor = list(timed(mido.MidiFile(tmp_path / "out.mid").tracks[0], 1))
    assert [(tick, message.tempo) for tick, message in conductor if message.type == "set_tempo"] == [
        (0, 400000), (960, 600000)]
    assert [(m.numerator, m.denominator) for _, m in conductor if m.type == "time_signature"] == [(4, 4)]


def test_each_window_is_drummed_on_its_own(cast):
    one = Drummer(cast, "fp32")
    windows = inputs.rhythms("windows", 3, 32)
    together = one.drum(windows)
    for number in range(3):
        np.testing.assert_allclose(one.drum(windows[number:number + 1])[0], together[number], atol=1e-6)


def test_same_seed_same_bytes_another_seed_other_drums(play, clave, tmp_path):
    for name, seed in (("one", 7), ("two", 7), ("three", 8)):
        assert play(clave, tmp_path / f"{name}.mid", "--seed", seed) == 0
    one, two, three = ((tmp_path / f"{name}.mid").read_bytes() for name in ("one", "two", "three"))
    assert one == two != three


def test_without_a_seed_the_temperature_is_of_no_matter(cast):
    windows = inputs.rhythms("cold", 1, 32)
    one = Drummer(cast)
    np.testing.assert_array_equal(one.drum(windows, temperature=0.5), one.drum(windows, temperature=2))


@pytest.mark.parametrize("variant", ["fp32", "fp16", "int8"])
def test_plays_every_variant_and_shows_which(play, clave, tmp_path, variant, cast, capsys):
    assert play(clave, tmp_path / "out.mid", "--variant", variant) == 0
    told = capsys.readouterr().out
    assert f"groovae-groove-{variant}.onnx (sha256 {Drummer(cast, variant).artifact.sha256[:12]}" in told
    assert "untrained" in told


strokes = st.builds(Stroke, st.floats(0, 63.9), st.integers(0, 8), st.integers(1, 127))


@settings(max_examples=50)
@given(found=st.lists(strokes, max_size=60))
def test_every_note_ends_before_it_is_struck_again(tmp_path_factory, found):
    path = tmp_path_factory.mktemp("midi") / "out.mid"
    drums.write(path, sorted(found), 2, [Tempo(0, 90)])
    sounding: dict[int, int] = {}
    for tick, message in timed(mido.MidiFile(path).tracks[1], 1):
        if message.type == "note_on":
            assert message.note not in sounding
            sounding[message.note] = tick
        elif message.type == "note_off":
            assert 0 < tick - sounding.pop(message.note) <= TICKS // 4
    assert not sounding


def test_drums_lie_early_or_late_by_half_their_offset_and_never_before_the_start():
    array = np.zeros((1, 32, 27), np.float32)
    for step, drum, velocity, offset in ((0, 0, 0.5, 1), (4, 1, 1, -1), (5, 8, 0, 0.5)):
        array[0, step, [drum, 9 + drum, 18 + drum]] = 1, velocity, offset
    assert drums.strokes_of(array) == [Stroke(0, 0, 64), Stroke(4.5, 1, 127), Stroke(4.75, 8, 1)]


# How MIDI taps are read


@settings(max_examples=50)
@given(ticks=st.lists(st.integers(0, 200 * TICKS), min_size=1, max_size=50, unique=True))
def test_every_tap_keeps_its_time_or_shares_a_sixteenth(tmp_path_factory, ticks):
    path = tapped(tmp_path_factory.mktemp("midi") / "taps.mid", [tick * 4 / TICKS for tick in ticks])
    windows = taps.read(path, None).windows()
    hits, offsets = windows[..., 3].ravel(), windows[..., 21].ravel()
    found = [step - offsets[step] / 2 for step in np.flatnonzero(hits)]
    assert len(found) == len({int((tick * 4 + TICKS // 2) // TICKS) for tick in ticks})
    assert all(min(abs(step - tick * 4 / TICKS) for tick in ticks) < 1e-4 for step in found)
    assert np.count_nonzero(windows) <= 2 * len(found) and windows.shape[1:] == (32, 27)


def test_of_notes_in_one_sixteenth_the_loudest_counts_and_it_says_so(tmp_path):
    taps_file = mido.MidiFile(type=0, ticks_per_beat=TICKS, tracks=[track_of(
        [(0, mido.Message("note_on", note=38, velocity=80)), (10, mido.Message("note_on", note=36, velocity=90)),
         (20, mido.Message("note_on", note=42, velocity=90))], 480)])
    taps_file.save(tmp_path / "taps.mid")
    read = taps.read(tmp_path / "taps.mid", None)
    assert read.steps.tolist() == [10 * 4 / TICKS]
    [remark] = read.remarks
    assert "taps.mid" in remark and "of 3 notes, 2 " in remark


@pytest.mark.parametrize(("numerator", "denominator"), [(4, 4), (2, 2), (8, 8)])
def test_bars_of_sixteen_sixteenths_are_taken(tmp_path, numerator, denominator):
    sign = mido.MetaMessage("time_signature", numerator=numerator, denominator=denominator)
    assert len(taps.read(tapped(tmp_path / "taps.mid", CLAVE, [(0, sign)]), None).steps) == 10


# How a recording is heard


def played(beats: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The steps of four bars of taps, and when they come, up to a twentieth of a sixteenth off the grid."""
    steps = np.flatnonzero(inputs.rhythms(f"tempo/{seed % 20}", 1, 64)[0, :, 3])
    return steps, (steps + 0.05 * seeded_uniform(f"tempo/{seed}", steps.shape)) * 15 / beats


@settings(max_examples=40)
@given(beats=st.floats(82, 150), seed=st.integers(0, 10**6))
def test_the_tempo_of_a_played_rhythm_is_estimated(beats, seed):
    steps, times = played(beats, seed)
    assert min(abs(estimate_tempo(times) / beats / factor - 1) for factor in (0.5, 1, 2)) < 0.01
    np.testing.assert_array_equal(taps.nearest(on_grid(times, beats)), steps - steps[0])


@settings(max_examples=40)
@given(beats=st.floats(70.5, 179), seed=st.integers(0, 10**6))
def test_a_slow_or_fast_one_may_be_heard_at_another_tempo_that_the_card_names(beats, seed):
    _, times = played(beats, seed)
    factors = np.array((0.5, 0.75, 1, 1.5, 2))
    assert np.abs(estimate_tempo(times) / beats / factors - 1).min() < 0.01


def knocks(path: Path, times: Sequence[float], seconds: float, rate: int = 16000, channels: int = 1) -> Path:
    """A recording of knocks: short bursts of noise."""
    sound = np.zeros(int(rate * seconds))
    burst = seeded_uniform("knock", (rate // 20,)) * np.exp(-np.arange(rate // 20) / (rate / 100))
    for time in times:
        start = int(rate * time)
        sound[start:start + len(burst)] += 0.5 * burst[:len(sound) - start]
    soundfile.write(path, np.repeat(sound[:, None], channels, axis=1), rate)
    return path


@pytest.fixture(scope="module")
def heard(tmp_path_factory) -> dict:
    """What the player's toolchain hears in recordings, by name."""
    folder = tmp_path_factory.mktemp("recordings")
    times = 0.7 + np.array(CLAVE) * 15 / 96
    recordings = {
        "mono": (knocks(folder / "mono.wav", times, 7), 0),
        "told": (knocks(folder / "told.wav", times, 7), 96),
        "stereo at 48 kHz": (knocks(folder / "stereo.flac", times, 7, 48000, 2), 0),
        "sample": (SAMPLES / "knocks.flac", 0),
        "silence": (knocks(folder / "silence.wav", [], 3), 0),
        "one tap": (knocks(folder / "one.wav", [1], 3), 0),
        "empty": (knocks(folder / "empty.wav", [], 0), 0),
        "text": (folder / "text.wav", 0),
        "not a number": (folder / "nan.wav", 0),
    }
    (folder / "text.wav").write_text("no sound")
    soundfile.write(folder / "nan.wav", np.full(16000, np.nan), 16000, subtype="FLOAT")
    words = itertools.chain.from_iterable((path, str(tempo)) for path, tempo in recordings.values())
    done = run("scripts/in", "player", "python", HERE / "hear.py", *words)
    assert done.returncode == 0, done.stderr
    return dict(zip(recordings, json.loads(done.stdout)))


@pytest.mark.parametrize("name", ["mono", "told", "stereo at 48 kHz"])
def test_knocks_are_heard_where_they_were(heard, name):
    """Each on its sixteenth, to a twentieth of one, and the tempo to half a percent."""
    assert len(heard[name]["steps"]) == len(CLAVE)
    assert np.abs(np.array(heard[name]["steps"]) - CLAVE).max() < 0.15
    assert abs(heard[name]["beats"] / 96 - 1) < 0.005


def test_the_sample_recording_is_a_clave(heard):
    assert taps.nearest(np.array(heard["sample"]["steps"])).tolist() == [0, 3, 6, 10, 12, 16, 19, 22, 26, 28]
    assert abs(heard["sample"]["beats"] - 104) < 1 and "estimated" in heard["sample"]["remarks"][0]


@pytest.mark.parametrize(("name", "said"), [
    ("silence", "expected sound, found 3.0 seconds of silence"),
    ("not a number", "expected sound, found what are no numbers after 0.00 seconds"),
    ("empty", "expected sound, found an empty recording"),
    ("one tap", "expected a rhythm, found 1 tap"),
    ("text", "expected a recording (WAV, FLAC, Ogg, MP3), found a file that can't be read"),
])
def test_a_recording_without_a_rhythm_is_refused(heard, name, said):
    assert said in heard[name]


# Mistakes are one line


def test_notes_that_are_no_taps_are_refused(tmp_path):
    mute = tapped(tmp_path / "mute.mid", [])
    waltz = tapped(tmp_path / "waltz.mid", CLAVE, [(960, mido.MetaMessage("time_signature", numerator=3))])
    endless = tapped(tmp_path / "endless.mid", [0, 16 * taps.LONGEST])
    (tmp_path / "text.mid").write_text("no music")
    for path, tempo, said in (
            (mute, None, "expected taps, found no notes"),
            (waltz, None, "expected 4/4 throughout, found 3/4 at beat 3"),
            (endless, None, f"expected at most {taps.LONGEST} bars, found {taps.LONGEST + 1}"),
            (tmp_path / "text.mid", None, "expected a MIDI file, found one that can't be read"),
            (tmp_path / "none.wav", None, "expected taps as MIDI or as a recording, found none"),
            (waltz, 90, "expected none with MIDI"),
            (waltz, 1000, "expected 20 to 400 quarter notes a minute"),
            (waltz, float("nan"), "expected 20 to 400 quarter notes a minute")):
        with pytest.raises(Refusal) as refusal:
            taps.read(path, tempo)
        assert said in str(refusal.value), refusal.value


@pytest.mark.parametrize(("words", "said"), [
    (["clave.mid", "out.wav"], "expected a name that ends in .mid, .midi or .png"),
    (["clave.mid", "clave.mid"], "expected another file than IN"),
    (["clave.mid", "nowhere/out.mid"], "expected the folder"),
    (["clave.mid", "out.mid", "--variant", "int4"], "found groovae-groove-fp16.onnx"),
    (["clave.mid", "out.mid", "--seed", "1", "--temperature", "-1"], "temperature: expected a number from 0 up"),
    (["clave.mid", "out.mid", "--temperature", "nan", "--seed", "1"], "temperature: expected a number from 0 up"),
    (["clave.mid", "out.mid", "--steps", "5"], "unrecognized arguments"),
    (["", "out.mid"], "IN=: expected taps"),
])
def test_a_mistake_is_one_line_and_writes_nothing(play, clave, tmp_path, words, said, capsys):
    before = set(tmp_path.iterdir())
    words[:2] = [str(tmp_path / word) if word else "" for word in words[:2]]
    assert play(*words) == REFUSED
    told = capsys.readouterr().err.strip()
    assert said in told and len(told.splitlines()) == 1
    assert set(tmp_path.iterdir()) == before


def test_arrays_that_are_no_taps_are_refused(cast):
    one = Drummer(cast)
    for wrong in (np.zeros((32, 27)), np.zeros((1, 32, 9)), np.zeros((0, 32, 27)), np.full((1, 32, 27), np.nan)):
        with pytest.raises(Refusal, match="taps: expected finite numbers"):
            one.drum(wrong)


# The picture


@pytest.mark.parametrize("bars", [2, 6, 256])
def test_draws_every_length(play, tmp_path, bars):
    path = tapped(tmp_path / "$x$.mid", np.arange(0, bars * 16, 4))
    assert play(path, tmp_path / "out.mid", "--plot", "--seed", "1") == 0
    png = (tmp_path / "out.png").read_bytes()
    assert png.startswith(b"\x89PNG") and max(int.from_bytes(png[16:20]), int.from_bytes(png[20:24])) < 2**16


def test_a_picture_alone_writes_no_midi(play, clave, tmp_path):
    assert play(clave, tmp_path / "out.png") == 0
    assert {path.name for path in tmp_path.iterdir()} == {"clave.mid", "out.png"}
