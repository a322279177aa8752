"""A sweep of MIDI files of every legal shape, written byte by byte, and of broken ones: what players read is what is in
them, or they say what isn't. FULL=1 sweeps 10,000 of each.
"""

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import mido
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.coconet.player import read_tune as of_coconet
from models.groovae import taps
from models.harmonizer import player as harmonizer
from models.harmonizer.beats import beats_of
from scripts.job import Refusal
from scripts.midi import load
from scripts.tune import LONGEST, SIGNS, Note, Tune, read_tune, write_parts
from tests.conftest import FULL

EXAMPLES = 10_000 if FULL else 400
ANY = range(128)
DRUMS = 9
JUNK = (  # what no player reads, running status and all
    b"\xb0\x40\x7f", b"\xe3\x00\x40", b"\xc1\x05", b"\xd0\x10", b"\xa0\x3c\x20", b"\xf0\x05\x7e\x7f\x09\x01\xf7",
    b"\xff\x01\x04text", b"\xff\x03\x00", b"\xff\x20\x01\x05", b"\xff\x21\x01\x00", b"\xff\x54\x05\x00\x00\x00\x00\x00",
    b"\xff\x7f\x03\x00\x00\x41")


class Played(NamedTuple):
    start: int  # ticks
    end: int
    pitch: int
    channel: int
    velocity: int
    track: int


class Song(NamedTuple):
    kind: int  # 0 or 1
    ticks: int  # a quarter note
    notes: list[Played]
    signs: list[tuple[int, int, bytes]]  # tick, kind and data of tempos, meters and keys
    junk: list[tuple[int, int, bytes]]  # tick, track, event
    running: bool  # whether statuses are left out where they may be
    silent: bool  # whether notes end by a note_on without velocity
    after: int  # ticks from the last event to the ends of the tracks


TEMPO = st.integers(1, 2**24 - 1).map(lambda micros: (0x51, micros.to_bytes(3, "big")))
METER = st.tuples(st.integers(1, 13), st.integers(0, 4)).map(lambda told: (0x58, bytes([*told, 24, 8])))
KEY = st.tuples(st.integers(-7, 7), st.integers(0, 1)).map(lambda told: (0x59, bytes([told[0] % 256, told[1]])))


@st.composite
def songs(draw: st.DrawFn) -> Song:
    ticks = draw(st.sampled_from((1, 3, 24, 96, 120, 480, 960, 8191, 32764)))
    kind = draw(st.sampled_from((0, 1)))
    tracks = 1 if kind == 0 else draw(st.integers(1, 4))
    exact = draw(st.booleans())  # on sixteenths, or anywhere
    last = 40 * ticks

    def tick() -> int:
        return draw(st.integers(0, 160)) * ticks // 4 if exact else draw(st.integers(0, last))

    low = draw(st.integers(0, 110))
    notes = []
    for _ in range(draw(st.integers(0, 24))):
        start = tick()
        length = draw(st.sampled_from((0, 1, ticks // 8, ticks // 4, ticks, ticks + ticks // 16, 3 * ticks)))
        notes.append(Played(start, start + length, draw(st.integers(low, min(low + 36, 127))),
                            draw(st.sampled_from((0, 0, 0, 1, 5, 9, 15))), draw(st.integers(1, 127)),
                            draw(st.integers(0, tracks - 1))))
    signs = [(tick(), *draw(st.one_of(TEMPO, METER, KEY))) for _ in range(draw(st.integers(0, 4)))]
    junk = [(tick(), draw(st.integers(0, tracks - 1)), draw(st.sampled_from(JUNK)))
            for _ in range(draw(st.integers(0, 6)))]
    return Song(kind, ticks, notes, signs, junk, draw(st.booleans()), draw(st.booleans()),
                draw(st.sampled_from((0, 1, ticks, 100 * ticks, 5000 * ticks))))


def written(song: Song) -> bytes:
    """The file of a song. At one tick notes end before others begin, but one without a length begins before it ends."""
    count = 1 + max([note.track for note in song.notes] + [track for _, track, _ in song.junk], default=0)
    tracks: list[list[tuple[int, int, int, bytes]]] = [[] for _ in range(count)]
    for number, note in enumerate(song.notes):
        on = bytes([0x90 | note.channel, note.pitch, note.velocity])
        off = bytes([0x90 | note.channel, note.pitch, 0] if song.silent else [0x80 | note.channel, note.pitch, 64])
        tracks[note.track] += [(note.start, 2, number, on), (note.end, 3 if note.end == note.start else 1, number, off)]
    tracks[0] += [(tick, 0, 0, bytes([0xFF, kind, len(data)]) + data) for tick, kind, data in song.signs]
    for tick, track, event in song.junk:
        tracks[track].append((tick, 0, 1, event))
    end = max([event[0] for events in tracks for event in events], default=0) + song.after
    told = b"MThd" + (6).to_bytes(4, "big") + b"".join(
        number.to_bytes(2, "big") for number in (song.kind, count, song.ticks))
    for events in tracks:
        content, now, status = b"", 0, 0
        for tick, _, _, event in [*sorted(events), (end, 9, 0, b"\xff\x2f\x00")]:
            content += length(tick - now)
            content += event[1:] if song.running and event[0] == status < 0xF0 else event
            now, status = tick, event[0]
        told += b"MTrk" + len(content).to_bytes(4, "big") + content
    return told


def length(value: int) -> bytes:
    """A number as MIDI writes it, seven bits a byte."""
    digits = [value % 128]
    while value := value // 128:
        digits.insert(0, value % 128 + 128)
    return bytes(digits)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("sweep") / "song.mid"


def taken(remarks: Sequence[str], words: str) -> int:
    """How many notes a remark with these words tells of."""
    [found] = [remark for remark in remarks if words in remark] or ["0"]
    return int(found.partition(words)[0].split()[-1]) if found != "0" else 0


def step(song: Song, tick: int) -> int:
    """The nearest sixteenth, the later one from the middle on."""
    return (8 * tick + song.ticks) // (2 * song.ticks)


def require_as_played(song: Song, tune: Tune) -> None:
    """Every note of the tune is the song's, and every one of the song's is in the tune or told of."""
    heard = [note for note in song.notes if note.channel != DRUMS]
    onsets = {(step(song, note.start), note.pitch) for note in heard}
    octaves = next(int(remark.partition("moved ")[2].split()[0]) * (1 if " up " in remark else -1)
                   for remark in [*tune.remarks, "moved 0 up "] if "moved " in remark)
    assert all(one.end <= other.start for one, other in zip(tune.notes, tune.notes[1:]))
    assert {(note.start, note.pitch - 12 * octaves) for note in tune.notes} <= onsets
    assert len(onsets) - len(tune.notes) <= taken(tune.remarks, f" of {len(heard)} notes are left out")
    off = sum(3 * abs(Fraction(4 * note.start, song.ticks) - step(song, note.start)) >= 1 for note in heard)
    assert taken(tune.remarks, f" of {len(heard)} notes by a third") == off
    if not any("held into" in remark or "polyphonic" in remark for remark in tune.remarks):
        ends = {(note.start, note.pitch - 12 * octaves): note.end for note in tune.notes}
        for note in heard:  # of equal notes that touch, a channel doesn't tell which end is whose, and two are a unison
            if not [other for other in heard if other is not note and other.pitch == note.pitch
                    and step(song, other.start) <= step(song, note.end)
                    and step(song, note.start) <= step(song, other.end)]:
                begins = step(song, note.start)
                assert ends.get((begins, note.pitch)) == max(step(song, note.end), begins + 1)
    assert tune.length >= max(note.end for note in tune.notes)
    names = dict(zip((0x51, 0x58, 0x59), SIGNS))
    assert sorted((Fraction(sign.tick, tune.sixteenth), sign.message.type) for sign in tune.signs) == sorted(
        (Fraction(4 * tick, song.ticks), names[kind]) for tick, kind, _ in song.signs
        if 4 * tick <= tune.length * song.ticks)
    assert any("silent sixteenths" in remark for remark in tune.remarks) or not [
        tick for tick, _, _ in song.signs if 4 * tick > tune.length * song.ticks]


@settings(max_examples=EXAMPLES)
@given(song=songs())
def test_a_melody_is_as_it_was_played_or_a_remark_says_what_is_not(place, song):
    place.write_bytes(written(song))
    if not [note for note in song.notes if note.channel != DRUMS]:
        with pytest.raises(Refusal, match="found no notes"):
            read_tune(place, ANY, "")
        return
    tune = read_tune(place, ANY, "")
    require_as_played(song, tune)
    assert [beat.end for beat in beats_of(tune)][-1] == tune.length
    write_parts(place, tune, [harmonizer.Part("Melody", 0, tune.notes)])
    again = read_tune(place, ANY, "")
    assert again.notes == tune.notes and again.length == tune.length


@settings(max_examples=EXAMPLES // 4)
@given(song=songs())
def test_each_models_range_is_kept_by_octaves_that_are_told(place, song):
    place.write_bytes(written(song))
    for read, pitches in ((of_coconet, range(36, 82)),
                          (lambda path: read_tune(path, harmonizer.PITCHES, ""), harmonizer.PITCHES)):
        try:
            tune = read(place)
        except Refusal:
            continue
        require_as_played(song, tune)
        assert all(note.pitch in pitches for note in tune.notes)


@settings(max_examples=EXAMPLES // 4)
@given(song=songs())
def test_every_note_is_a_tap_or_shares_its_sixteenth(place, song):
    place.write_bytes(written(song))
    meters = [data for _, kind, data in song.signs if kind == 0x58]
    try:
        found = taps.read(place, None)
    except Refusal as refusal:
        assert not song.notes or ("4/4" in str(refusal) and any(data[0] != 2 ** data[1] for data in meters))
        return
    steps = {step(song, note.start) for note in song.notes}
    assert taps.nearest(found.steps).tolist() == sorted(steps)
    assert taken(found.remarks, " share a sixteenth") == len(song.notes) - len(steps)
    assert {*found.steps.tolist()} <= {note.start / (song.ticks / 4) for note in song.notes}


@settings(max_examples=EXAMPLES)
@given(song=songs(), breaks=st.lists(st.tuples(
    st.sampled_from(("put", "cut", "add", "end")), st.floats(0, 1), st.binary(min_size=1, max_size=4)), min_size=1,
    max_size=3))
def test_a_broken_file_is_read_as_mido_reads_it_or_refused_in_a_sentence(place, song, breaks):
    content = bytearray(written(song))
    for how, where, what in breaks:
        at = int(where * len(content))
        content[at:] = {"put": what + content[at + len(what):], "cut": content[at + len(what):],
                        "add": what + content[at:], "end": b""}[how]
    place.write_bytes(content)
    try:
        tune = read_tune(place, ANY, "")
        file, remarks = load(place, "")
    except Refusal as refusal:
        assert str(refusal).startswith(f"{place}: expected") and len(str(refusal).splitlines()) == 1
        return
    assert tune.length <= LONGEST and all(isinstance(note, Note) for note in tune.notes)
    write_parts(place, tune, [harmonizer.Part("Melody", 0, tune.notes)])
    if remarks:
        return
    try:
        theirs = mido.MidiFile(file=io.BytesIO(content), clip=True)
    except Exception:  # whatever it is led into
        return
    if any(message.type == "unknown_meta" for track in theirs.tracks for message in track):
        return  # mido 1.3.3 forgets how long these waited
    assert struck(file) == struck(theirs)


def struck(file: mido.MidiFile) -> list[tuple[int, int, int, int]]:
    """When each note of a file is struck or let go, in ticks, its channel, pitch and velocity."""
    found = []
    for track in file.tracks:
        tick = 0
        for message in track:
            tick += message.time
            if message.type in ("note_on", "note_off"):
                found.append((tick, message.channel, message.note,
                              message.velocity if message.type == "note_on" else 0))
    return sorted(found)


def test_the_sweep_catches_a_note_a_sixteenth_off(place):
    """As a legato note that gives way at its end would be."""
    song = Song(0, 480, [Played(0, 480, 60, 0, 80, 0), Played(480, 960, 62, 0, 80, 0)], [], [], False, False, 0)
    place.write_bytes(written(song))
    tune = read_tune(place, ANY, "")
    require_as_played(song, tune)
    late = tune._replace(notes=(tune.notes[0], Note(5, 8, 62)))
    with pytest.raises(AssertionError):
        require_as_played(song, late)
    with pytest.raises(AssertionError):
        require_as_played(song, tune._replace(notes=tune.notes[:1]))
