"""What the harmonizer's player promises: MIDI in, four voices out."""

import itertools
import json
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.coconet import midi, picture, player
from models.coconet.midi import read_tune
from models.coconet.player import Harmonizer
from scripts.job import REFUSED, Refusal
from scripts.midi import load, timed, track_of
from scripts.tune import LONGEST, SIGNS, Note, Sign, Tune, bars_of, nearest, sounding

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = sorted((ROOT / "models/coconet/samples").glob("*.mid"))
SCALE = [60, 62, 64, 65, 65, 67, 69, 72]
TICKS = 480


def notes_file(path: Path, notes: Sequence[tuple[int, int, int]], end: int = 0, ticks: int = TICKS, channel: int = 0,
               signs: Sequence[tuple[int, mido.MetaMessage]] = ()) -> Path:
    """A MIDI file of notes (start tick, end tick, pitch) and signs with their ticks; it ends at `end` or later."""
    events = [(tick, 0, message) for tick, message in signs]
    for start, stop, pitch in notes:
        events.append((start, 2, mido.Message("note_on", note=pitch, channel=channel)))
        events.append((stop, 1, mido.Message("note_off", note=pitch, channel=channel)))
    events.sort(key=lambda event: event[:2])
    last = max([end, *(event[0] for event in events)])
    track = track_of([(tick, message) for tick, _, message in events], last)
    mido.MidiFile(type=0, ticks_per_beat=ticks, tracks=[track]).save(path)
    return path


def quarters(pitches: Sequence[int]) -> list[tuple[int, int, int]]:
    return [(TICKS * n, TICKS * (n + 1), pitch) for n, pitch in enumerate(pitches)]


def notes_of(track: mido.MidiTrack) -> list[tuple[int, int, int]]:
    """(start tick, end tick, pitch) of a track's notes."""
    return sorted(note for notes in sounding(list(timed(track, 1))) for note in notes)


def length_of(track: mido.MidiTrack) -> int:
    return sum(message.time for message in track)


@pytest.fixture
def melody(tmp_path: Path) -> Path:
    return notes_file(tmp_path / "melody.mid", quarters(SCALE))


@pytest.fixture
def play(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command, on the tiny artifacts and with few steps; returns its exit status."""
    monkeypatch.chdir(tiny.resolve().parents[3])

    def run(*arguments: str | Path) -> int:
        return player.main(["--weights", "tiny", "--steps", "3", *map(str, arguments)])

    return run


# The music that comes out


def test_keeps_tempos_and_signatures_at_their_ticks(play, tmp_path):
    signs = [(0, mido.MetaMessage("set_tempo", tempo=400000)),
             (0, mido.MetaMessage("time_signature", numerator=3, denominator=4)),
             (0, mido.MetaMessage("key_signature", key="E")),
             (777, mido.MetaMessage("set_tempo", tempo=600000)),
             (1440, mido.MetaMessage("time_signature", numerator=4, denominator=4))]
    melody = notes_file(tmp_path / "melody.mid", quarters(SCALE), signs=signs)
    assert play(melody, tmp_path / "out.mid") == 0
    conductor = timed(mido.MidiFile(tmp_path / "out.mid").tracks[0], 1)
    assert [(tick, message.copy(time=0)) for tick, message in conductor if message.type in SIGNS] == signs


@pytest.mark.parametrize("extra, kept", [(0, 0), (1, 120), (120, 120), (1000, 1080)])
def test_keeps_the_length_rounded_up_to_a_sixteenth(play, tmp_path, extra, kept):
    sung = TICKS * len(SCALE)
    melody = notes_file(tmp_path / "melody.mid", quarters(SCALE), end=sung + extra)
    assert play(melody, tmp_path / "out.mid") == 0
    assert [length_of(track) for track in mido.MidiFile(tmp_path / "out.mid").tracks] == [sung + kept] * 5


def test_writes_four_named_voices_on_channels_of_their_own(play, melody, tmp_path):
    play(melody, tmp_path / "out.mid")
    file = mido.MidiFile(tmp_path / "out.mid")
    assert file.type == 1
    assert [track.name for track in file.tracks[1:]] == ["Soprano", "Alto", "Tenor", "Bass"]
    programs = [message for track in file.tracks for message in track if message.type == "program_change"]
    assert [(message.channel, message.program) for message in programs] == [(0, 68), (1, 69), (2, 71), (3, 70)]


def test_soprano_is_the_melody_note_for_note(play, melody, tmp_path):
    play(melody, tmp_path / "out.mid")
    assert notes_of(mido.MidiFile(tmp_path / "out.mid").tracks[1]) == quarters(SCALE)


def test_each_lower_voice_sings_one_note_at_a_time_without_a_gap(play, melody, tmp_path):
    play(melody, tmp_path / "out.mid")
    for track in mido.MidiFile(tmp_path / "out.mid").tracks[2:]:
        notes = notes_of(track)
        assert [start for start, _, _ in notes] == [0, *(end for _, end, _ in notes[:-1])]
        assert notes[-1][1] == TICKS * len(SCALE)
        assert all(one[2] != other[2] for one, other in itertools.pairwise(notes))


@settings(max_examples=20)
@given(melody=st.lists(st.one_of(st.just(0), st.integers(36, 81)), min_size=1, max_size=40), seed=st.integers())
def test_every_melody_is_kept_under_three_voices_in_range(tiny, melody, seed):
    pitches = Harmonizer(tiny).harmonize(np.array(melody), seed=seed, steps=2)
    assert pitches.shape == (len(melody), 4)
    assert pitches[:, 0].tolist() == melody
    assert pitches[:, 1:].min() >= 36
    assert pitches[:, 1:].max() <= 81


def test_same_seed_gives_the_same_bytes(play, melody, tmp_path):
    play(melody, tmp_path / "one.mid", "--seed", "7")
    play(melody, tmp_path / "other.mid", "--seed", "7")
    assert (tmp_path / "one.mid").read_bytes() == (tmp_path / "other.mid").read_bytes()


def test_another_seed_gives_other_music(tiny):
    harmonizer, melody = Harmonizer(tiny), np.repeat(SCALE, 4)
    assert not np.array_equal(harmonizer.harmonize(melody, seed=1), harmonizer.harmonize(melody, seed=2))


def test_without_temperature_and_steps_the_seed_is_of_no_matter(tiny):
    harmonizer, melody = Harmonizer(tiny), np.repeat(SCALE, 4)
    one, other = (harmonizer.harmonize(melody, seed=seed, temperature=0, steps=0) for seed in (1, 2))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("variant", ["fp32", "fp16", "int8"])
def test_plays_every_variant(play, melody, tmp_path, variant, capsys):
    assert play(melody, tmp_path / "out.mid", "--variant", variant) == 0
    assert f"coconet-harmonizer-{variant}.onnx" in capsys.readouterr().out


def test_shows_what_plays_by_hash_and_that_it_is_untrained(play, melody, tmp_path, tiny, capsys):
    play(melody, tmp_path / "out.mid")
    told = capsys.readouterr().out
    assert Harmonizer(tiny).artifact.sha256[:12] in told
    assert "untrained" in told


# How a melody is read


def test_a_rest_stays_a_rest_and_the_lower_voices_sound_on(play, tmp_path):
    sung = [(TICKS, 2 * TICKS, 60), (3 * TICKS, 4 * TICKS, 64)]
    melody = notes_file(tmp_path / "melody.mid", sung, end=5 * TICKS)
    play(melody, tmp_path / "out.mid")
    file = mido.MidiFile(tmp_path / "out.mid")
    assert notes_of(file.tracks[1]) == sung
    assert all(notes_of(track)[0][0] == 0 and notes_of(track)[-1][1] == 5 * TICKS for track in file.tracks[2:])


def test_what_a_rest_hides_does_not_reach_the_model(tiny):
    rolls = {}

    class Listening:
        def run(self, _, feed):
            rolls.update(feed)
            return [feed["pianorolls"]]

    harmonizer = Harmonizer(tiny)
    harmonizer.session = Listening()
    harmonizer.harmonize(np.array([60, 0, 62]))
    assert rolls["masks"][0, :, :, 0].max(axis=1).tolist() == [0, 1, 0]
    assert rolls["masks"][..., 1:].min() == 1


def test_of_notes_together_the_highest_is_the_melody_and_it_says_so(play, tmp_path, capsys):
    melody = notes_file(tmp_path / "melody.mid", [(0, 960, 60), (480, 960, 64), (480, 1440, 55)])
    assert play(melody, tmp_path / "out.mid") == 0
    assert notes_of(mido.MidiFile(tmp_path / "out.mid").tracks[1]) == [(0, 480, 60), (480, 960, 64)]
    assert ("polyphonic: of notes together the highest is kept, 1 of 3 notes are left out and 1 end where a higher one "
            "begins") in capsys.readouterr().err


def test_a_melody_needs_no_remark(melody):
    assert read_tune(melody).remarks == ()


def test_notes_joined_by_a_slur_are_no_polyphony(tmp_path):
    tune = read_tune(notes_file(tmp_path / "melody.mid", [(0, 490, 72), (480, 960, 60)]))
    assert (tune.notes, tune.remarks) == ((Note(0, 4, 72), Note(4, 8, 60)), ())


LINES = st.lists(st.tuples(st.integers(48, 72), st.integers(1, 12), st.integers(0, TICKS // 4 - 1), st.booleans()),
                 min_size=1, max_size=40)


@given(line=LINES)
def test_a_line_keeps_its_onsets_and_pitches_however_its_notes_overlap(tmp_path_factory, line):
    """By less than a sixteenth, each note its pitch, its sixteenths, ticks too long, and whether a rest follows."""
    notes, start = [], 0
    for pitch, sixteenths, overlap, rests in line:
        notes.append((start, start + sixteenths * TICKS // 4 + overlap, pitch))
        start += (sixteenths + 4 * rests) * TICKS // 4
    tune = read_tune(notes_file(tmp_path_factory.mktemp("line") / "melody.mid", notes))
    assert [(note.start * TICKS // 4, note.pitch) for note in tune.notes] == [(begins, pitch)
                                                                              for begins, _, pitch in notes]
    assert not any("polyphonic" in remark for remark in tune.remarks)


@given(notes=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20), st.integers(48, 72)), min_size=1, max_size=40))
def test_no_note_comes_at_another_time_than_it_was_played(tmp_path_factory, notes):
    """However many sound together: each that is kept begins where one of its pitch began, and the rest is counted."""
    played = [(start * 60, (start + length) * 60 + 5, pitch) for start, length, pitch in notes]
    tune = read_tune(notes_file(tmp_path_factory.mktemp("many") / "melody.mid", played))
    assert {(note.start, note.pitch) for note in tune.notes} <= {(nearest(start, 120), pitch)
                                                                for start, _, pitch in played}
    assert all(one.end <= other.start for one, other in itertools.pairwise(tune.notes))
    if len({(nearest(start, 120), pitch) for start, _, pitch in played}) > len(tune.notes):
        assert any("left out" in remark for remark in tune.remarks)


def test_what_is_held_into_the_next_note_is_counted(tmp_path):
    """As a pianist's legato at 160 quarter notes a minute is, and a pedal's."""
    tune = read_tune(notes_file(tmp_path / "melody.mid", [(0, 310, 79), (240, 550, 78), (480, 720, 76)]))
    assert tune.notes == (Note(0, 2, 79), Note(2, 4, 78), Note(4, 6, 76))
    assert [remark.partition(": ")[2] for remark in tune.remarks] == [
        "2 of 3 notes are held into the next one and end where it begins"]


def test_an_accompaniment_does_not_break_a_held_melody(tmp_path):
    """On one channel, each note let go a little early: sixteenths under a quarter note are no slur of it."""
    under = [(start, start + 110, 55 + start // 120) for start in range(0, 480, 120)]
    tune = read_tune(notes_file(tmp_path / "melody.mid", [(0, 456, 72), *under, (480, 940, 71)]))
    assert tune.notes == (Note(0, 4, 72), Note(4, 8, 71))
    assert "4 of 6 notes are left out and 0 end" in tune.remarks[0]


def test_a_grace_note_gives_way_to_what_it_graces(tmp_path):
    tune = read_tune(notes_file(tmp_path / "melody.mid", [(460, 480, 74), (480, 960, 72)]))
    assert tune.notes == (Note(4, 8, 72),)


def with_event(path: Path, event: bytes) -> Path:
    """The melody's file with an event at its start."""
    notes_file(path, quarters(SCALE))
    header, track = path.read_bytes()[:14], path.read_bytes()[22:]
    path.write_bytes(header + b"MTrk" + (len(event) + 1 + len(track)).to_bytes(4, "big") + b"\0" + event + track)
    return path


@pytest.mark.parametrize(("event", "remark"), [
    (b"\xb0\x07\xff", ""),  # a controller's value
    (b"\xe0\x80\x90", ""),  # a bend
    (b"\xc0\xff", ""),  # a program
    (b"\xf0\x03\x01\xff\xf7", ""),  # a device's own
    (b"\xff\x54\x01\x00", ""),  # a time code that is too short
    (b"\xff\x21\x00", ""),  # a port that is none
    (b"\xff\x7f\x02\xff\xff", ""),
    (b"\xff\x59\x02\x0a\x00", "1 tempos or signatures aren't any and are passed over"),
    (b"\xff\x58\x04\x00\x02\x18\x08", "1 tempos or signatures aren't any and are passed over"),
    (b"\xff\x51\x01\x07", "1 tempos or signatures aren't any and are passed over"),
    (b"\x90\x48\xff\x01\x80\x48\x40", "1 notes are louder than MIDI can say and count as the loudest"),
])
def test_one_bad_byte_of_what_nobody_reads_is_in_nobodys_way(tmp_path, event, remark):
    tune = read_tune(with_event(tmp_path / "melody.mid", event))
    assert [note.pitch for note in tune.notes if note.pitch != 72] == [pitch for pitch in SCALE if pitch != 72]
    said = [told.partition(": ")[2] for told in tune.remarks
            if "sixteenths" not in told and "polyphonic" not in told]
    assert said == ([remark] if remark else [])


@pytest.mark.parametrize("event", [b"\xf0\xff\x7f\x01", b"\xff\x01\xff\x7f\x01"])
def test_an_event_that_says_it_is_longer_than_its_track_is_refused(tmp_path, event):
    """It would take the notes after it along, without a word."""
    with pytest.raises(Refusal, match="found one that can't be read"):
        read_tune(with_event(tmp_path / "melody.mid", event))


def test_a_pitch_that_is_none_is_refused(tmp_path):
    with pytest.raises(Refusal, match=r"data byte must be in range 0\.\.127"):
        read_tune(with_event(tmp_path / "melody.mid", b"\x90\xf8\x40"))


def test_midi_in_a_riff_file_is_midi(tmp_path):
    content = notes_file(tmp_path / "melody.mid", quarters(SCALE)).read_bytes()
    inner = b"RMIDdisp\x03\0\0\0abc\0data" + len(content).to_bytes(4, "little") + content
    (tmp_path / "rmi.mid").write_bytes(b"RIFF" + len(inner).to_bytes(4, "little") + inner)
    assert read_tune(tmp_path / "rmi.mid").notes == read_tune(tmp_path / "melody.mid").notes


def test_a_chunk_that_is_no_track_is_passed_over(tmp_path):
    content = notes_file(tmp_path / "melody.mid", quarters(SCALE)).read_bytes()
    (tmp_path / "more.mid").write_bytes(content[:14] + b"XFIH\0\0\0\x03abc" + content[14:])
    assert read_tune(tmp_path / "more.mid").notes == read_tune(tmp_path / "melody.mid").notes


@given(notes=st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 900), st.integers(40, 80)), min_size=1),
       signs=st.lists(st.tuples(st.integers(0, 3000), st.sampled_from([
           mido.MetaMessage("set_tempo", tempo=400000), mido.MetaMessage("time_signature", numerator=6, denominator=8),
           mido.MetaMessage("key_signature", key="Bbm")])), max_size=5))
def test_a_sound_file_is_read_as_mido_reads_it(tmp_path_factory, notes, signs):
    path = notes_file(tmp_path_factory.mktemp("sound") / "melody.mid",
                      [(start, start + length, pitch) for start, length, pitch in notes], signs=sorted(
                          signs, key=lambda sign: sign[0]))
    assert load(path, "")[0].tracks == mido.MidiFile(path).tracks


def test_a_stray_event_far_behind_the_last_note_adds_no_silence(tmp_path):
    tune = read_tune(notes_file(tmp_path / "melody.mid", quarters(SCALE), end=10_000_000))
    assert tune.length == 4 * len(SCALE) and "silent sixteenths after the last note" in tune.remarks[0]


def test_a_note_too_short_for_the_grid_lasts_a_sixteenth(tmp_path):
    tune = read_tune(notes_file(tmp_path / "melody.mid", [(480, 500, 72)]))
    assert tune.notes == (Note(4, 5, 72),)


def test_notes_come_from_every_track_but_the_drums(tmp_path):
    tracks = [mido.MidiFile(notes_file(tmp_path / "a.mid", [(start, start + 480, pitch)], channel=channel)).tracks[0]
              for start, pitch, channel in ((0, 60, 0), (480, 62, 5), (0, 81, 9))]
    mido.MidiFile(type=1, ticks_per_beat=TICKS, tracks=tracks).save(tmp_path / "melody.mid")
    assert read_tune(tmp_path / "melody.mid").notes == (Note(0, 4, 60), Note(4, 8, 62))


def file_of(path: Path, *messages: mido.Message) -> Path:
    """A MIDI file of the given messages, each with its ticks since the last."""
    mido.MidiFile(type=0, ticks_per_beat=TICKS, tracks=[mido.MidiTrack(messages)]).save(path)
    return path


def test_a_note_that_never_ends_ends_with_its_track(tmp_path):
    melody = file_of(tmp_path / "melody.mid", mido.Message("note_on", note=60),
                     mido.MetaMessage("end_of_track", time=960))
    assert read_tune(melody).notes == (Note(0, 8, 60),)


def test_a_note_without_velocity_ends_one(tmp_path):
    melody = file_of(tmp_path / "melody.mid", mido.Message("note_on", note=60),
                     mido.Message("note_on", note=60, velocity=0, time=480), mido.MetaMessage("end_of_track", time=480))
    assert read_tune(melody).notes == (Note(0, 4, 60),)


def test_a_repeated_note_may_begin_before_the_last_one_ends(tmp_path):
    melody = file_of(tmp_path / "melody.mid", mido.Message("note_on", note=60),
                     mido.Message("note_on", note=60, time=480), mido.Message("note_off", note=60, time=20),
                     mido.Message("note_off", note=60, time=460))
    assert read_tune(melody).notes == (Note(0, 4, 60), Note(4, 8, 60))


def test_of_equal_notes_together_the_later_sounds(tmp_path):
    tune = read_tune(notes_file(tmp_path / "melody.mid", [(0, 960, 60), (480, 1920, 60)]))
    assert tune.notes == (Note(0, 4, 60), Note(4, 16, 60))


@pytest.mark.parametrize("pitches, octaves", [([30, 40], 1), ([82, 90], -1), ([0, 12], 3), ([127], -4), ([36, 81], 0)])
def test_a_melody_out_of_range_moves_by_the_fewest_octaves_and_it_says_so(tmp_path, pitches, octaves):
    tune = read_tune(notes_file(tmp_path / "melody.mid", quarters(pitches)))
    assert [note.pitch for note in tune.notes] == [pitch + 12 * octaves for pitch in pitches]
    assert any("octave" in remark for remark in tune.remarks) == (octaves != 0)


@pytest.mark.parametrize("pitches", [[36, 82], [40, 90], [35, 81]])
def test_a_melody_that_no_octave_fits_is_refused_with_its_ends(tmp_path, pitches):
    with pytest.raises(Refusal, match=rf"\({pitches[0]}\).*\({pitches[1]}\)"):
        read_tune(notes_file(tmp_path / "melody.mid", quarters(pitches)))


@pytest.mark.parametrize("tick, sixteenth, told", [(39, 0, False), (40, 0, True), (60, 1, True), (80, 1, True),
                                                   (81, 1, False), (120, 1, False)])
def test_onsets_are_rounded_and_a_third_of_a_sixteenth_is_told(tmp_path, tick, sixteenth, told):
    tune = read_tune(notes_file(tmp_path / "melody.mid", [(tick, tick + 480, 60)]))
    assert tune.notes[0].start == sixteenth
    assert bool(tune.remarks) == told


@pytest.mark.parametrize("ticks", [1, 2, 10, 25, 96, 8191])
def test_every_resolution_keeps_its_times(play, tmp_path, ticks):
    melody = notes_file(tmp_path / "melody.mid", [(ticks * n, ticks * (n + 1), pitch) for n, pitch in enumerate(SCALE)],
                        ticks=ticks, signs=[(ticks, mido.MetaMessage("set_tempo", tempo=300000))])
    assert play(melody, tmp_path / "out.mid") == 0
    file = mido.MidiFile(tmp_path / "out.mid")
    beat = file.ticks_per_beat
    assert notes_of(file.tracks[1]) == [(beat * n, beat * (n + 1), pitch) for n, pitch in enumerate(SCALE)]
    assert file.tracks[0][0].time == beat


@settings(max_examples=50)
@given(sung=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(36, 81)), min_size=1, max_size=30),
       ticks=st.sampled_from([4, 24, 96, 480, 960]))
def test_what_is_written_reads_back_as_it_was(tmp_path_factory, sung, ticks):
    folder = tmp_path_factory.mktemp("round")
    notes, now = [], 0
    for rest, length, pitch in sung:
        notes.append((now + rest, now + rest + length, pitch))
        now += rest + length
    sixteenth = ticks // 4
    tune = read_tune(notes_file(
        folder / "melody.mid", [(start * sixteenth, end * sixteenth, pitch) for start, end, pitch in notes],
        ticks=ticks, signs=[(sixteenth, mido.MetaMessage("set_tempo", tempo=250000))]))
    assert list(tune.notes) == notes
    midi.write_chorale(folder / "again.mid", tune, [tune.notes])
    assert read_tune(folder / "again.mid") == tune
    assert tune.melody().tolist() == [next((p for start, end, p in notes if start <= step < end), 0)
                                      for step in range(tune.length)]


# What can't be played


def spoil(content: bytes, format: int = 0, tracks: int = 1, division: int = TICKS) -> bytes:
    """A MIDI file with another header."""
    return content[:8] + struct.pack(">hhh", format, tracks, division) + content[14:]


@pytest.mark.parametrize("make", [
    pytest.param(lambda good: b"", id="empty"),
    pytest.param(lambda good: b"not a song" * 100, id="garbage"),
    pytest.param(lambda good: good[:-9], id="cut short"),
    pytest.param(lambda good: spoil(good, division=-6360), id="SMPTE"),
    pytest.param(lambda good: spoil(good, division=0), id="no resolution"),
    pytest.param(lambda good: spoil(good, division=8193), id="a resolution without sixteenths"),
    pytest.param(lambda good: spoil(good, format=2), id="unrelated tracks"),
    pytest.param(lambda good: spoil(good, tracks=0), id="no tracks"),
])
def test_a_file_that_is_no_song_is_refused_in_one_sentence(play, melody, tmp_path, capsys, make):
    melody.write_bytes(make(melody.read_bytes()))
    assert play(melody, tmp_path / "out.mid") == REFUSED
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert str(melody) in told[0]
    assert list(tmp_path.iterdir()) == [melody]


def test_a_file_without_notes_is_refused(tmp_path):
    with pytest.raises(Refusal, match="no notes"):
        read_tune(notes_file(tmp_path / "melody.mid", [], end=960))


def test_a_file_of_drums_is_refused(tmp_path):
    with pytest.raises(Refusal, match="no notes"):
        read_tune(notes_file(tmp_path / "melody.mid", quarters(SCALE), channel=9))


def test_the_longest_file_is_read_and_a_longer_one_refused(tmp_path):
    end = LONGEST * TICKS // 4
    melody = [*quarters(SCALE), (end - TICKS, end, 60)]
    assert read_tune(notes_file(tmp_path / "melody.mid", melody)).length == LONGEST
    with pytest.raises(Refusal, match="split"):
        read_tune(notes_file(tmp_path / "melody.mid", melody, end=end + 1))


def test_a_missing_file_is_refused(play, tmp_path, capsys):
    assert play(tmp_path / "none.mid", tmp_path / "out.mid") == REFUSED
    assert str(tmp_path / "none.mid") in capsys.readouterr().err


@settings(max_examples=300)
@given(where=st.integers(0, 400), what=st.binary(min_size=1, max_size=6))
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, where, what):
    content = bytearray(SAMPLES[0].read_bytes())
    content[where:where + len(what)] = what
    path = tmp_path_factory.getbasetemp() / "damaged.mid"
    path.write_bytes(content)
    try:
        tune = read_tune(path)
    except Refusal:
        return
    midi.write_chorale(path, tune, midi.voices_of(tune, np.full((tune.length, 4), 60)))
    assert len(bars_of(tune)) <= LONGEST + len(tune.signs) + 1


@pytest.mark.parametrize("melody", [[35], [82], [-1], [], [60.5], [[60]], [60] * (LONGEST + 1)])
def test_pitches_that_are_no_melody_are_refused(tiny, melody):
    with pytest.raises(Refusal, match="melody"):
        Harmonizer(tiny).harmonize(np.array(melody))


@pytest.mark.parametrize("setting", [("--temperature", "-0.1"), ("--temperature", "nan"), ("--temperature", "inf"),
                                     ("--steps", "-1"), ("--steps", "1001")])
def test_a_setting_without_sense_is_refused_by_name(play, melody, tmp_path, capsys, setting):
    assert play(melody, tmp_path / "out.mid", *setting) == REFUSED
    assert setting[0].lstrip("-") in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [melody]


def test_a_variant_that_is_not_there_is_refused_with_those_that_are(play, melody, tmp_path, capsys):
    assert play(melody, tmp_path / "out.mid", "--variant", "int4") == REFUSED
    told = capsys.readouterr().err
    assert "coconet-harmonizer-int4.onnx" in told
    assert "coconet-harmonizer-int8.onnx" in told


@pytest.mark.parametrize("weights, remedy", [("seeded", "make coconet WEIGHTS=seeded"),
                                             ("custom", "make coconet CHECKPOINT=")])
def test_weights_that_are_not_cast_yet_name_the_command_that_casts_them(
        melody, tmp_path, monkeypatch, capsys, weights, remedy):
    monkeypatch.chdir(tmp_path)
    assert player.main([str(melody), "out.mid", "--weights", weights]) == REFUSED
    assert remedy in capsys.readouterr().err


def test_a_folder_without_artifacts_is_refused(tmp_path):
    with pytest.raises(Refusal, match="make coconet"):
        Harmonizer(tmp_path)


def test_a_damaged_artifact_is_refused(tiny, tmp_path):
    name = "coconet-harmonizer-int8.onnx"
    (tmp_path / name).write_bytes((tiny / name).read_bytes()[:5000])
    with pytest.raises(Refusal, match=name):
        Harmonizer(tmp_path)


def test_artifacts_play_from_any_folder(tiny, tmp_path):
    shutil.copy(tiny / "coconet-harmonizer-fp16.onnx", tmp_path)
    melody = np.repeat(SCALE, 4)
    here, there = (Harmonizer(folder, "fp16").harmonize(melody, steps=3) for folder in (tiny, tmp_path))
    assert np.array_equal(here, there)


# Where it goes


@pytest.mark.parametrize("name", ["out.wav", "out", "none/out.mid", "melody.mid"])
def test_an_out_that_can_not_be_is_refused_before_anything_is_done(play, melody, tmp_path, capsys, name):
    before = melody.read_bytes()
    assert play(melody, tmp_path / name) == REFUSED
    assert "harmonizing" not in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [melody]
    assert melody.read_bytes() == before


def test_a_write_that_fails_leaves_the_old_file(play, melody, tmp_path, monkeypatch, capsys):
    def fail(path, *_):
        path.write_bytes(b"MThd")
        raise OSError(28, "No space left on device")

    (tmp_path / "out.mid").write_bytes(b"old")
    monkeypatch.setattr(player, "write_chorale", fail)
    assert play(melody, tmp_path / "out.mid") == REFUSED
    assert "No space left on device" in capsys.readouterr().err
    assert (tmp_path / "out.mid").read_bytes() == b"old"
    assert sorted(tmp_path.iterdir()) == [melody, tmp_path / "out.mid"]


def size_of_png(path: Path) -> tuple[int, int]:
    """Width and height in pixels."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", content[16:24])


def test_plot_draws_a_picture_beside_the_chorale(play, melody, tmp_path):
    assert play(melody, tmp_path / "out.mid", "--plot") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["melody.mid", "out.mid", "out.png"]
    width, height = size_of_png(tmp_path / "out.png")
    assert 800 <= width <= 2000
    assert 300 <= height <= 1000


def test_an_out_png_is_the_picture_alone_and_the_same_every_time(play, melody, tmp_path):
    for name in ("one.png", "other.png"):
        assert play(melody, tmp_path / name) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["melody.mid", "one.png", "other.png"]
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()


def test_a_long_chorale_goes_on_in_further_systems(tmp_path):
    for length in (128, 1024):
        tune = Tune((Note(0, length, 60),), length, 120, (), ())
        picture.draw(tmp_path / f"{length}.png", tune, [tune.notes] * 4, "$title$", "subtitle")
    (width, height), (wide, tall) = size_of_png(tmp_path / "128.png"), size_of_png(tmp_path / "1024.png")
    assert wide == width
    assert tall > 2 * height


@pytest.mark.parametrize("signs, length, starts", [
    ([], 40, [(1, 0), (2, 16), (3, 32)]),
    ([(0, 3, 4)], 36, [(1, 0), (2, 12), (3, 24)]),
    ([(0, 1, 4), (4, 4, 4)], 36, [(0, 0), (1, 4), (2, 20)]),
    ([(0, 4, 4), (32, 6, 8)], 56, [(1, 0), (2, 16), (3, 32), (4, 44)]),
])
def test_bars_follow_the_time_signatures_and_an_upbeat_is_not_counted(signs, length, starts):
    told = tuple(Sign(120 * start, mido.MetaMessage("time_signature", numerator=beats, denominator=beat))
                 for start, beats, beat in signs)
    bars = bars_of(Tune((Note(0, length, 60),), length, 120, told, ()))
    assert [(bar.number, bar.start) for bar in bars] == starts
    assert bars[-1].end == length


# The samples


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_each_sample_is_one_voice_in_the_sopranos_range(path):
    tune = read_tune(path)
    assert tune.remarks == ()
    assert all(60 <= note.pitch <= 81 for note in tune.notes)
    assert tune.length % 16 == 0
    assert {sign.message.type for sign in tune.signs} == set(SIGNS)


def test_the_samples_are_listed():
    listed = (SAMPLES[0].parent / "README.md").read_text(encoding="utf-8")
    assert SAMPLES
    assert all(f"({path.name})" in listed for path in SAMPLES)


def test_old_hundredth_is_the_soprano_of_the_hand_set_chorale():
    chorale = json.loads((ROOT / "models/coconet/chorales.json").read_text(encoding="utf-8"))["old-hundredth"]
    notes = read_tune(ROOT / "models/coconet/samples/old-hundredth.mid").notes
    assert [note.pitch for note in notes] == chorale["soprano"]
    assert [note.end - note.start for note in notes] == [4 * quarter for quarter in chorale["quarters"]]
