"""Chords are written as the key has them; what sounds is the same."""

import mido
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.harmonizer import spelling
from models.harmonizer.beats import beats_of
from models.harmonizer.chords import NAMES, number
from models.harmonizer.player import Suggestion
from scripts.tune import Note, Sign, Tune

KEYS = [mido.MetaMessage("key_signature", key=tonic + mode) for mode, tonics in (
    ("", "Cb Gb Db Ab Eb Bb F C G D A E B F# C#"), ("m", "Ab Eb Bb F C G D A E B F# C# G# D# A#"))
    for tonic in tonics.split()]
SEMITONES = dict(zip("CDEFGAB", (0, 2, 4, 5, 7, 9, 11)))
MAJOR, MINOR = ("", "m", "m", "", "", "m", "dim"), ("m", "dim", "", "m", "", "", "")


def tune_of(pitches, *signs):
    notes = tuple(Note(4 * place, 4 * place + 4, pitch) for place, pitch in enumerate(pitches))
    return Tune(notes, 4 * len(pitches), 120, tuple(Sign(tick, message) for tick, message in signs), ())


def root_of(chord):
    """A chord's letter with its signs, and the pitch class that they say."""
    name = chord[0] + chord[1:].partition("m")[0].partition("d")[0].partition("7")[0]
    return name, (SEMITONES[name[0]] + name.count("#") - name[1:].count("b")) % 12


@pytest.mark.parametrize(("key", "chords", "written"), [
    ("Db", "C# F# Ebm Ab Bbm Cdim", "Db Gb Ebm Ab Bbm Cdim"),
    ("E", "E Abm C#m Ebdim B7", "E G#m C#m D#dim B7"),
    ("Am", "Am E Abdim Bb", "Am E G#dim Bb"),
    ("F#", "F# C# Fdim Bbm", "F# C# E#dim A#m"),
    ("Gb", "F# C# Fdim Bbm B", "Gb Db Fdim Bbm Cb"),
    ("C", "C Eb F#dim Ab Bb", "C Eb F#dim Ab Bb"),
])
def test_chords_are_written_as_musicians_write_them(key, chords, written):
    told = spelling.of_signature(mido.MetaMessage("key_signature", key=key))
    assert [spelling.spelled(chord, told) for chord in chords.split()] == written.split()


@pytest.mark.parametrize("message", KEYS, ids=lambda message: message.key)
def test_in_every_key_a_chord_keeps_its_root_and_quality(message):
    key = spelling.of_signature(message)
    for chord in NAMES:
        name, pitch_class = root_of(spelling.spelled(chord, key))
        assert pitch_class == number(chord) % 12 and name.count("#") + name[1:].count("b") <= 1
        assert spelling.spelled(chord, key).removeprefix(name) == chord.removeprefix(root_of(chord)[0])


@pytest.mark.parametrize("message", KEYS, ids=lambda message: message.key)
def test_the_seven_triads_of_a_key_have_seven_letters(message):
    """The tonic's is the key's own. In minor the seventh degree is the one below the tonic."""
    minor = message.key.endswith("m")
    tonic = root_of(message.key)[1]
    steps = (0, 2, 3, 5, 7, 8, 10) if minor else (0, 2, 4, 5, 7, 9, 11)
    triads = [next(name for name in NAMES if number(name) == (tonic + step) % 12 + 12 * ("", "m", "dim").index(quality))
              for step, quality in zip(steps, MINOR if minor else MAJOR)]
    written = [spelling.spelled(chord, spelling.of_signature(message)) for chord in triads]
    assert root_of(written[0])[0] == root_of(message.key)[0]
    assert len({chord[0] for chord in written}) == 7


def test_the_signature_of_a_beat_counts(tmp_path):
    """From the beat on at which it comes; before, and where it has no signs, the key that the melody tells of."""
    tune = tune_of([61, 63, 65, 66, 68, 70, 72, 73], (0, mido.MetaMessage("key_signature", key="C")),
                   (3 * 480, mido.MetaMessage("key_signature", key="E")))
    told = spelling.in_key(tune, beats_of(tune), [[Suggestion("C#", 0.6), Suggestion("Ab", 0.4)]] * 8)
    assert [[one.chord for one in beat] for beat in told] == [["Db", "Ab"]] * 3 + [["C#", "G#"]] * 5


@given(st.integers(-5, 6))
def test_without_a_signature_the_melody_tells_the_key(fifths):
    scale = [60 + step for step in (0, 2, 4, 5, 7, 9, 11, 12, 7, 4, 0, 0)]
    tune = tune_of(np.array(scale) + 7 * fifths % 12)
    [key] = set(spelling.keys(tune, beats_of(tune)))
    assert key == spelling.Key(fifths, False)
