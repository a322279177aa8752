"""Chunks are upstream's own where they don't overlap, and go on from each other where they do."""

import itertools
import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.vampnet import chunks
from models.vampnet.inputs import COARSE, CODEBOOKS, MASK, VOCABULARY

OVERLAPS = ((0, 0), (chunks.COARSE_OVERLAP, chunks.FINE_OVERLAP))
recordings = given(time=st.integers(1, 2000), share=st.sampled_from([0, 0.01, 0.5, 0.99, 1]), seed=st.integers(0, 9999),
                   overlaps=st.sampled_from(OVERLAPS))


def made_up(time: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes and a mask of so many steps, so many of them masked."""
    chance = np.random.default_rng(seed)
    codes = chance.integers(0, VOCABULARY, (CODEBOOKS, time))
    return codes, (chance.uniform(size=codes.shape) < share).astype(np.int64)


def standing_in(code: int, calls: list) -> chunks.Write:
    """Writes the same code everywhere, and remembers what it was given: codes and mask, and what it wrote."""
    def write(codes: np.ndarray, mask: np.ndarray, number: int) -> np.ndarray:
        assert number == len(calls) and codes.shape == mask.shape and codes.shape[0] == 1
        written = np.where(mask == 1, code, codes)
        calls.append((codes.copy(), mask.copy(), written))
        return written

    return write


def counting() -> tuple[chunks.Write, Callable[[], int]]:
    """Writes another number at each place, from VOCABULARY on; and how many it wrote."""
    written = VOCABULARY

    def write(codes: np.ndarray, mask: np.ndarray, number: int) -> np.ndarray:
        nonlocal written
        codes = codes.copy()
        places = int(mask.sum())
        codes[mask == 1] = np.arange(written, written + places)
        written += places
        return codes

    return write, lambda: written - VOCABULARY


# As upstream


@pytest.mark.parametrize("name", ["plain", "allmasked"])
def test_without_overlap_every_call_and_result_is_upstreams(golden, name):
    """Stand-ins write 7 for the coarse transformer and 9 for the other, as for the recorded calls."""
    told = np.load(golden / "vampnet/sampling.npz")
    cases = json.loads((golden / "vampnet/sampling.json").read_text())["vamp"]
    models = [call["model"] for case in cases if case["name"] == name for call in case["calls"]]
    codes, mask, out, out_mask = (told[f"vamp_{name}_{part}"][0].astype(np.int64)
                                  for part in ("codes", "mask", "out", "out_mask"))
    first, second = [], []
    vamped = chunks.coarse(codes, mask, standing_in(7, first), 0)
    vamped = chunks.fine(vamped, mask, standing_in(9, second), 0)
    np.testing.assert_array_equal(vamped, out)
    assert models == ["coarse"] * len(first) + ["c2f"] * len(second)
    for number, (start, anew, _) in enumerate(first + second):
        np.testing.assert_array_equal(anew, told[f"vamp_{name}_call{number}_mask"])
        # Upstream hides what is to be written from the coarse transformer here; the sampler does it itself.
        shown = np.where(anew == 1, MASK, start) if number < len(first) else start
        np.testing.assert_array_equal(shown, told[f"vamp_{name}_call{number}_start"])
    kept = np.concatenate([chunks.pinned(mask[:COARSE], 0), mask[COARSE:]])
    np.testing.assert_array_equal(np.where(kept == 1, MASK, out), out_mask)


def test_the_recorded_calls_tell_an_overlap_from_none(golden):
    told = np.load(golden / "vampnet/sampling.npz")
    calls: list = []
    chunks.coarse(*(told[f"vamp_plain_{part}"][0].astype(np.int64) for part in ("codes", "mask")),
                  standing_in(7, calls), 1)
    assert calls[1][0].shape != told["vamp_plain_call1_start"].shape


# Of any length


@recordings
@example(time=575, share=0.5, seed=0, overlaps=OVERLAPS[1])
@example(time=576, share=0.5, seed=0, overlaps=OVERLAPS[1])
@example(time=1, share=1, seed=0, overlaps=OVERLAPS[1])
def test_what_is_kept_stays_and_all_else_is_written_once(time, share, seed, overlaps):
    """Of the coarse codebooks the ends are kept where upstream keeps them; no other place is."""
    codes, mask = made_up(time, share, seed)
    write, count = counting()
    vamped = chunks.coarse(codes, mask, write, overlaps[0])
    anew = chunks.pinned(mask[:COARSE], overlaps[0]) == 1
    np.testing.assert_array_equal(vamped[COARSE:], codes[COARSE:])
    np.testing.assert_array_equal(vamped[:COARSE][~anew], codes[:COARSE][~anew])
    assert sorted(vamped[:COARSE][anew]) == list(range(VOCABULARY, VOCABULARY + count()))

    write, count = counting()
    again = chunks.fine(vamped, mask, write, overlaps[1])
    anew = mask[COARSE:] == 1
    np.testing.assert_array_equal(again[:COARSE], vamped[:COARSE])
    np.testing.assert_array_equal(again[COARSE:][~anew], codes[COARSE:][~anew])
    written = again[COARSE:][anew]
    assert len(set(written)) == len(written) and set(written) <= set(range(VOCABULARY, VOCABULARY + count()))


@recordings
def test_ends_are_kept_where_anything_is(time, share, seed, overlaps):
    _, mask = made_up(time, share, seed)
    mask = mask[:COARSE]
    pins = chunks.pinned(mask, overlaps[0])
    changed = np.flatnonzero((pins != mask).any(0))
    spans = chunks.spans(time, chunks.COARSE_CHUNK, overlaps[0])
    if mask.all():
        assert not len(changed)
    elif overlaps[0]:
        assert set(changed) <= {0, time - 1}
        assert mask[:, slice(*spans[0])].all() or not pins[:, 0].any()
        assert mask[:, slice(*spans[-1])].all() or not pins[:, -1].any()
    else:
        assert all(mask[:, start:end].all() or not pins[:, [start, end - 1]].any() for start, end in spans)


@recordings
def test_every_step_is_in_a_chunk_and_none_is_longer_than_one(time, share, seed, overlaps):
    for length, overlap in zip((chunks.COARSE_CHUNK, chunks.FINE_CHUNK), overlaps):
        spans = chunks.spans(time, length, overlap)
        assert spans[0][0] == 0 and spans[-1][1] == time
        assert all(end - start == length for start, end in spans[:-1]) and 0 < spans[-1][1] - spans[-1][0] <= length
        assert all(after[0] == before[1] - overlap for before, after in itertools.pairwise(spans))
        assert len(spans) == 1 or spans[-1][1] - spans[-1][0] > overlap  # each has something to write


@recordings
def test_a_chunk_goes_on_from_what_the_one_before_wrote(time, share, seed, overlaps):
    """Its first steps are given, as they were written; without overlap nothing is given."""
    codes, mask = made_up(time, share, seed)
    for part, overlap in zip((chunks.coarse, chunks.fine), overlaps):
        calls: list = []
        part(codes, mask, standing_in(2000, calls), overlap)
        for (_, _, before), (given_codes, anew, _) in itertools.pairwise(calls):
            assert not anew[..., :overlap].any()
            np.testing.assert_array_equal(given_codes[..., :overlap], before[..., before.shape[2] - overlap:])


def test_without_overlap_a_chunk_knows_nothing_of_the_one_before():
    """The twin of the above: the first steps of a chunk that is masked throughout are to be written."""
    codes, mask = made_up(1200, 1, 0)
    for part in (chunks.coarse, chunks.fine):
        calls: list = []
        part(codes, mask, standing_in(2000, calls), 0)
        assert len(calls) > 1 and all(anew[:, -1, 0].all() for _, anew, _ in calls)


def test_codes_and_mask_that_are_given_are_left_as_they_were():
    codes, mask = made_up(700, 0.5, 0)
    before = codes.copy(), mask.copy()
    chunks.fine(chunks.coarse(codes, mask, counting()[0]), mask, counting()[0])
    np.testing.assert_array_equal(codes, before[0])
    np.testing.assert_array_equal(mask, before[1])
