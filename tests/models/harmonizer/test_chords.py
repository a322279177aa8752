"""Chords, by name and number, out of four voices, and what rules say of them."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.harmonizer import rules
from models.harmonizer.chords import CHORDS, NAMES, TONES, UNKNOWN, chords_of, hits, number, transposed
from models.harmonizer.dataset import Piece
from models.harmonizer.voicing import HIGHEST, LOWEST, voiced
from scripts import recipe
from tests.conftest import ROOT

R = np.nan


def chord(*sixteenths: list[float]) -> str:
    """Of a beat whose sixteenths, soprano to bass, are given; of one, held."""
    [found] = chords_of(np.array(sixteenths * (4 // len(sixteenths)), np.float64))
    return NAMES[found] if found != UNKNOWN else ""


def test_every_name_has_its_number_and_its_tones():
    assert len(NAMES) == len(set(NAMES)) == len(TONES) == CHORDS == 60
    assert all(NAMES[number(name)] == name for name in NAMES)
    assert TONES[number("F#m7")] == (6, 9, 1, 4)
    with pytest.raises(ValueError, match="not in"):
        number("H7")


def test_the_recipe_names_the_chords_in_the_order_of_the_logits():
    told = recipe.read(ROOT, "harmonizer")
    assert told["metadata"]["chords"] == ", ".join(NAMES)
    assert told["components"]["chords"]["outputs"][0]["shape"][-1] == CHORDS


@pytest.mark.parametrize(("voices", "name"), [
    ([72, 67, 64, 48], "C"), ([72, 67, 63, 48], "Cm"), ([77, 74, 65, 59], "Bdim"), ([77, 74, 71, 55], "G7"),
    ([72, 69, 65, 50], "Dm7"), ([R, R, R, R], ""), ([72, R, R, R], "C"), ([72, 67, 67, 48], "C"),
])
def test_the_chord_of_four_held_notes(voices, name):
    assert chord(voices) == name


@pytest.mark.parametrize(("beat", "name"), [
    # An eighth that passes by step in the soprano, in the bass, and in two voices; a seventh that stays.
    ([[72, 67, 64, 48]] * 2 + [[74, 67, 64, 48]] * 2, "C"),
    ([[72, 69, 64, 57]] * 2 + [[72, 69, 64, 55]] * 2, "Am"),
    ([[74, 71, 67, 55]] * 2 + [[74, 71, 65, 55]] * 2, "G"),
    ([[74, 71, 67, 55]] + [[74, 71, 65, 55]] * 3, "G7"),
])
def test_passing_notes_count_by_their_length(beat, name):
    assert chord(*beat) == name


def test_between_equals_the_bass_decides():
    """C and A with half of each chord's other tones: what lies in the bass is the root."""
    assert chord([76, 72, 64, 48]) == "C"
    assert chord([76, 72, 64, 57]) == "Am"


@given(voices=st.lists(st.integers(40, 80), min_size=4, max_size=4), steps=st.integers(-11, 11))
def test_a_chord_moves_with_its_notes(voices, steps):
    """Of voices that sound a triad and nothing else."""
    classes = {voice % 12 for voice in voices}
    if len(classes) == 3 and any(set(tones) == classes for tones in TONES):
        beat = np.array([voices] * 4, np.float64)
        assert (transposed(chords_of(beat), steps) == chords_of(beat + steps)).all()


def test_a_piece_moves_whole_and_its_rests_stay():
    moved = Piece(np.array([60, 0, 62, 62]), np.array([number("Bm")])).moved(2)
    assert moved.melody.tolist() == [62, 0, 64, 64] and NAMES[moved.chords[0]] == "C#m"
    assert transposed(np.array([UNKNOWN]), 5).tolist() == [UNKNOWN]


def test_hits_count_first_and_first_three_of_what_is_known():
    ranked = np.array([[1, 2, 3, 4], [5, 1, 2, 4], [4, 5, 6, 1], [9, 9, 9, 9]])
    assert hits(ranked, np.array([1, 1, 1, UNKNOWN])) == (1 / 3, 2 / 3)


@pytest.mark.parametrize(("notes", "key"), [
    ([67, 69, 71, 72, 74, 76, 78, 79, 74, 71, 67, 67], (7, 0)),
    ([69, 71, 72, 74, 76, 77, 76, 72, 69, 68, 69, 69], (9, 1)),
])
def test_the_key_of_a_melody(notes, key):
    assert rules.key_of(np.repeat(notes, 4)) == key


def test_the_rule_takes_the_most_usual_triad_that_holds_the_note():
    ranked = rules.rule(np.repeat([60, 62, 64, 65, 67, 69, 71, 72, 67, 64, 60, 60], 4))
    assert [NAMES[chord] for chord in ranked[:7, 0]] == ["C", "G", "C", "F", "C", "F", "G"]
    assert [NAMES[chord] for chord in ranked[1, :3]] == ["G", "Dm", "Bdim"]


@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=12))
def test_block_chords_hold_every_tone_once_in_a_middle_register(names):
    for name, pitches in zip(names, voiced(names)):
        assert sorted(pitch % 12 for pitch in pitches) == sorted(TONES[number(name)])
        assert min(pitches) >= LOWEST and max(pitches) <= HIGHEST and max(pitches) - min(pitches) < 12


def test_block_chords_move_little():
    chords = voiced(["C", "F", "G7", "C", "Am", "Dm", "G", "C"])
    for before, after in itertools.pairwise(chords):
        assert all(min(abs(pitch - old) for old in before) <= 2 for pitch in after)
