"""What the transcriber's player promises: a recording in, notes out."""

import re
from collections.abc import Callable
from functools import partialmethod
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from models.mt3 import midi, picture, player
from models.mt3.notes import Note
from models.mt3.player import Transcriber, stepping
from scripts.job import REFUSED, Refusal
from scripts.seeded import seeded_uniform
from tests.conftest import ROOT

RATE = 16000
SAMPLE = ROOT / "models/mt3/samples/arpeggio.ogg"
FEW = 24  # tokens a segment: untrained networks seldom end


@pytest.fixture
def play(cast: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command, on the tiny artifacts, for few tokens a segment; returns its exit status."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(Transcriber, "transcribe", partialmethod(Transcriber.transcribe, tokens=FEW))
    return lambda *words, model="mt3": player.main(["--weights", "tiny", *map(str, words)], model)


def noise(seconds: float) -> np.ndarray:
    return 0.3 * seeded_uniform("player", (round(seconds * RATE),))


# Segments


@given(st.lists(st.integers(0, 700), max_size=12), st.integers(1, 4))
def test_pieces_of_any_length_are_cut_into_the_same_segments(lengths, frames):
    """Nothing is lost or doubled, all are whole but the last, which is filled up to a frame and never empty."""
    sound = np.arange(1, sum(lengths) + 1, dtype=np.float32)
    pieces = np.split(sound, np.cumsum(lengths)[:-1]) if lengths else []
    found = list(player.segments(pieces, frames * 128))
    together = np.concatenate(found)
    np.testing.assert_array_equal(together[:len(sound)], sound)
    assert not together[len(sound):].any() and 1 <= len(together) - len(sound) <= 128
    assert all(len(segment) == frames * 128 for segment in found[:-1]) and len(found[-1]) % 128 == 0


def test_three_seconds_are_cut_as_upstream_cuts_them(golden):
    """376 frames in segments of 256 and 120; and where each begins."""
    told = np.load(golden / "mt3/mel.npz")
    found = list(player.segments([np.zeros(48000, np.float32)], 256 * 128))
    assert [len(segment) // 128 for segment in found] == told["music_mt3_frames_per_segment"].tolist() == [256, 120]
    starts = [player.start(number, 256) for number in range(2)]
    np.testing.assert_allclose(starts, [time - time % 0.01 for time in (0, 256 / 125)], atol=1e-9)


@pytest.mark.parametrize("model", ["mt3", "ismir2021"])
@pytest.mark.parametrize("decoding", player.DECODINGS)
def test_segments_in_a_batch_say_what_they_say_alone(cast, monkeypatch, model, decoding):
    """In fp32: five segments and a part of one, together, and one by one."""
    transcriber = Transcriber(cast.parents[1] / model / "compose", model, "fp32", decoding)
    samples = transcriber.configuration.frames * 128
    sound = noise(5.4 * samples / RATE)
    together = transcriber.transcribe([sound], tokens=FEW)
    monkeypatch.setattr(player, "BATCH", 1)
    assert transcriber.transcribe(np.array_split(sound, 11), tokens=FEW) == together


def test_beam_and_greedy_may_differ_and_greedy_is_that_of_the_step(cast):
    """The loop in the graph and the loop outside, around the same step."""
    from models.mt3 import decode, inputs

    inside, outside = (Transcriber(cast, "mt3", "int8", decoding) for decoding in ("greedy", "beam"))
    mel = inputs.mels("player", 4, 256)
    [told] = inside.sessions["transcriber"].run(None, {"mel": mel, "length": np.array(48)})
    step = stepping(outside.sessions["encoder"], outside.sessions["decoder"], mel)
    np.testing.assert_array_equal(decode.greedy(step, 4, 48), told)


# The command


def test_a_recording_becomes_midi_and_a_picture(play, tmp_path, capsys):
    assert play(SAMPLE, tmp_path / "notes.mid", "--plot") == 0
    told = capsys.readouterr().out
    assert re.search(r"listening to 3\.2 seconds with mt3-encoder-int8\.onnx \(sha256 \w{12}…\) and mt3-decoder", told)
    assert "tiny weights are an untrained stand-in" in told and re.search(r"\d+ notes of \d+ instruments?", told)
    assert mido.MidiFile(tmp_path / "notes.mid").type == 1
    assert (tmp_path / "notes.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("words", [["--decode", "greedy"], ["--variant", "fp16"], ["--variant", "fp32"]])
def test_every_variant_and_decoding_plays_and_the_same_again(play, tmp_path, words):
    for name in ("one.mid", "two.mid"):
        assert play(SAMPLE, tmp_path / name, *words) == 0
    assert (tmp_path / "one.mid").read_bytes() == (tmp_path / "two.mid").read_bytes()


def test_the_piano_model_plays_with_its_own_artifacts(play, tmp_path, capsys):
    assert play(SAMPLE, tmp_path / "notes.mid", model="ismir2021") == 0
    assert "ismir2021-encoder-int8.onnx" in capsys.readouterr().out


def test_less_than_a_frame_is_heard(play, tmp_path):
    soundfile.write(tmp_path / "click.wav", np.full(50, 0.5), RATE)
    assert play(tmp_path / "click.wav", tmp_path / "notes.mid") == 0


@pytest.mark.parametrize(("words", "said"), [
    (["none.wav", "notes.mid"], "expected a recording (WAV, FLAC, Ogg, MP3), found none"),
    (["text.wav", "notes.mid"], "can't be read"),
    (["still.wav", "notes.mid"], "seconds of silence"),
    (["noise.wav", "notes.txt"], "expected a name that ends in .mid, .midi or .png"),
    (["noise.wav", "away/notes.mid"], "found none: make it first"),
    (["noise.wav", "notes.mid", "--decode", "magic"], "expected beam or greedy"),
    (["noise.wav", "notes.mid", "--variant", "int2"], "name a variant that is there"),
    (["noise.wav", "notes.mid", "--seed", "7"], "unrecognized arguments: --seed"),
])
def test_a_mistake_is_one_line_and_writes_nothing(play, tmp_path, monkeypatch, capsys, words, said):
    (tmp_path / "text.wav").write_text("no sound")
    soundfile.write(tmp_path / "still.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "noise.wav", noise(1), RATE)
    before = sorted(tmp_path.iterdir())
    given, out, *rest = words
    assert play(tmp_path / given, tmp_path / out, *rest) == REFUSED
    last = capsys.readouterr().err.strip().splitlines()
    assert len(last) == 1 and said in last[0]
    assert sorted(tmp_path.iterdir()) == before


def test_artifacts_that_are_not_there_are_named(tmp_path):
    with pytest.raises(Refusal, match="expected an artifact, found none"):
        Transcriber(tmp_path)


# Notes as MIDI

notes_of = st.lists(st.builds(
    lambda pitch, velocity, onset, length, program, is_drum: Note(
        pitch, velocity, onset / 100, (onset + length) / 100, 0 if is_drum else program, is_drum),
    st.integers(0, 127), st.integers(1, 127), st.integers(0, 3000), st.integers(1, 200), st.integers(0, 127),
    st.booleans()), max_size=60, unique_by=lambda note: (note.pitch, note.program, note.is_drum))


@given(notes_of)
def test_every_note_is_in_its_instruments_track_at_its_time(tmp_path_factory, notes):
    """Read back by mido: pitches, velocities, programs, times to the millisecond, drums on channel 10 alone."""
    path = tmp_path_factory.mktemp("midi") / "notes.mid"
    midi.write(path, notes)
    found, programs = [], {}
    for track in mido.MidiFile(path).tracks[1:]:
        now, sounding = 0, {}
        for message in track:
            now += message.time
            if message.type == "program_change":
                programs[message.channel, track.name] = message.program
            elif message.type == "note_on":
                sounding[message.note] = now, message.velocity
            elif message.type == "note_off":
                onset, velocity = sounding.pop(message.note)
                found.append((message.note, velocity, onset, now, programs[message.channel, track.name],
                              message.channel == 9))
        assert not sounding
    assert sorted(found) == sorted((note.pitch, note.velocity, round(1000 * note.onset), round(1000 * note.offset),
                                    note.program, note.is_drum) for note in notes)


def replayed(path: Path, one_port: bool) -> list[tuple[str, str]]:
    """Of each note its track's name and the program that sounds, played as a synthesizer does: tracks together, in
    their order where two say something at one time; on one port, or each on its own.
    """
    events = []
    for number, track in enumerate(mido.MidiFile(path).tracks[1:]):
        port = next((message.port for message in track if message.type == "midi_port"), 0)
        now = 0
        for message in track:
            now += message.time
            events.append((now, number, track.name, 0 if one_port else port, message))
    programs, heard = {}, []
    for _, _, name, port, message in sorted(events, key=lambda event: event[:2]):
        if message.type == "program_change":
            programs[port, message.channel] = midi.PROGRAMS[message.program]
        elif message.type == "note_on":
            heard.append((name, "Drums" if message.channel == 9 else programs[port, message.channel]))
    return heard


@pytest.mark.parametrize("one_port", [False, True])
@given(programs=st.lists(st.integers(0, 127), unique=True, min_size=1, max_size=50), data=st.data())
def test_every_note_sounds_as_its_instrument_however_many_there_are(tmp_path_factory, one_port, programs, data):
    times = st.lists(st.integers(0, 20), min_size=1, max_size=3, unique=True)
    notes = [Note(60 + number % 7, 90, onset / 10, onset / 10 + 0.05, program, False)
             for number, program in enumerate(programs) for onset in data.draw(times)] + [Note(36, 90, 0, 0.1, 0, True)]
    path = tmp_path_factory.mktemp("midi") / "notes.mid"
    midi.write(path, notes)
    heard = replayed(path, one_port)
    assert len(heard) == len(notes) and all(name == sounds for name, sounds in heard)


def test_up_to_fifteen_instruments_and_drums_need_one_port(tmp_path):
    for count, ports in ((15, 0), (16, 2)):
        notes = [Note(60, 100, number, number + 0.5, number, False) for number in range(count)]
        midi.write(tmp_path / "many.mid", [*notes, Note(36, 100, 0, 0.1, 0, True)])
        tracks = mido.MidiFile(tmp_path / "many.mid").tracks
        assert len({message.port for track in tracks for message in track if message.type == "midi_port"}) == ports


@pytest.mark.parametrize("seconds", [0.1, 19.9, 41, 7200])
def test_recordings_of_every_length_are_drawn(tmp_path, seconds):
    notes = [Note(40 + number, 90, number * seconds / 30, number * seconds / 30 + 0.4, number, False)
             for number in range(30)] + [Note(36, 100, 0.05, 0.06, 0, True)]
    for name, played in (("some.png", notes), ("none.png", [])):
        picture.draw(tmp_path / name, played, seconds, "a $ b_{c}.wav", "subtitle")
        assert (tmp_path / name).stat().st_size > 1000
