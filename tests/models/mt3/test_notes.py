"""Tokens become notes as upstream's own code makes them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.mt3 import vocabulary
from models.mt3.notes import Segment, transcribe
from models.mt3.vocabulary import CONFIGURATIONS, Event


@pytest.fixture(scope="module")
def codec(golden):
    return json.loads((golden / "mt3/codec.json").read_text())


@pytest.mark.parametrize(("name", "count"), [("mt3", 52), ("ismir2021", 49)])
def test_the_golden_segments_give_the_golden_notes(codec, name, count):
    """Every case: integers and counts equal, times to the nanosecond."""
    cases = codec[name]["cases"]
    assert len(cases) == count
    for case in cases:
        found = transcribe([Segment(one["start_time"], one["ids"]) for one in case["segments"]], CONFIGURATIONS[name])
        assert (found.invalid, found.dropped) == (case["invalid_events"], case["dropped_events"]), case["kind"]
        assert len(found.notes) == len(case["notes"]), case["kind"]
        for note, (pitch, velocity, onset, offset, program, is_drum) in zip(found.notes, case["notes"]):
            assert (note.pitch, note.velocity, note.program, note.is_drum) == (pitch, velocity, program, is_drum)
            assert note.onset == pytest.approx(onset, abs=1e-9) and note.offset == pytest.approx(offset, abs=1e-9)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_ranges_of_events_are_upstreams(codec, name):
    found = {kind: [numbers.start, numbers.stop - 1] for kind, numbers in
             vocabulary.ranges(CONFIGURATIONS[name]).items()}
    assert found == codec[name]["event_ranges"]
    assert CONFIGURATIONS[name].velocities == codec[name]["num_velocity_bins"]
    assert CONFIGURATIONS[name].frames == codec[name]["frames_per_segment"]
    assert CONFIGURATIONS[name].ties == codec[name]["with_ties"]


def test_tokens_that_say_nothing_are_none():
    """Padding, the unknown, and what lies beyond the last event."""
    assert list(vocabulary.events([0, 2, 1391, 1535, 3, 1, 3], CONFIGURATIONS["mt3"])) == [
        None, None, None, None, Event("shift", 0)]


@given(st.sampled_from(sorted(CONFIGURATIONS)), st.lists(st.lists(st.integers(0, 1663), max_size=60), max_size=5))
def test_no_tokens_lead_to_more_than_notes(name, segments):
    """Whatever a network writes: notes of positive length within MIDI's ranges, and each event accounted for."""
    told = [Segment(2.04 * number, tokens) for number, tokens in enumerate(segments)]
    found = transcribe(told, CONFIGURATIONS[name])
    written = sum(len(list(vocabulary.events(tokens, CONFIGURATIONS[name]))) for tokens in segments)
    assert found.invalid + found.dropped <= written
    for note in found.notes:
        assert 0 <= note.pitch <= 127 and 1 <= note.velocity <= 127 and 0 <= note.program <= 127
        assert 0 <= note.onset < note.offset
