"""The mask controls: upstream's own masks with upstream's own draws, and what holds whatever is drawn."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.vampnet import masks
from models.vampnet.masks import Draws
from scripts.job import Refusal

CASES = 18
RENAMED = {"_dropout": "dropout", "prefix_s": "prefix", "suffix_s": "suffix"}


def in_frames(name, value):
    """Upstream asks for seconds where build asks for frames."""
    return math.ceil(value * 44100 / 768) if name.endswith("_s") else value


def made(asked, seed=0, **changed):
    """What build makes of drawn controls, with draws of its own, and these draws."""
    asked = {**asked, **changed}
    draws = masks.draw(seed, asked["codebooks"], asked["time"], asked["periodic_prompt"], asked["dropout"])
    return masks.build(**asked, draws=draws), draws


controls = st.integers(1, 14).flatmap(lambda codebooks: st.fixed_dictionaries({
    "codebooks": st.just(codebooks),
    "time": st.integers(1, 60),
    "periodic_prompt": st.integers(0, 70),
    "periodic_prompt_width": st.integers(1, 9),
    "upper_codebook_mask": st.integers(0, codebooks),
    "prefix": st.integers(0, 70),
    "suffix": st.integers(0, 70),
    "dropout": st.floats(0, 1),
    "rand_mask_intensity": st.floats(0, 1),
    "ncc": st.integers(0, codebooks),
}))
seeds = st.integers(0, 2**32)
PLAIN = {"codebooks": 14, "time": 57, "periodic_prompt": 7, "dropout": 0.2}


# Against upstream


@pytest.fixture(scope="module")
def told(golden):
    return dict(np.load(golden / "vampnet/sampling.npz"))


@pytest.fixture(scope="module")
def cases(golden):
    return json.loads((golden / "vampnet/sampling.json").read_text())["build_mask"]


def test_every_golden_case_is_asked(cases):
    assert [case["index"] for case in cases] == list(range(CASES))


@pytest.mark.parametrize("number", range(CASES))
def test_upstreams_draws_give_upstreams_mask(told, cases, number):
    """Each row of a batch by itself."""
    case = cases[number]
    batch, codebooks, time = case["shape"]
    asked = {RENAMED.get(name, name): in_frames(name, value) for name, value in case["kwargs"].items()}
    # Where upstream's weren't kept, the intensity is 0 or 1 and they don't matter.
    any_draws = np.stack([masks.draw(row, codebooks, time, 7, 0).uniforms for row in range(batch)])
    masked = told.get(f"build_mask_{number:02}_bernoulli")
    uniforms = any_draws if masked is None else np.float32(1) - masked.astype(np.float32)
    for row in range(batch):
        draws = Draws(case["roll_offset"] or 0, np.array(case["dropout_steps"], np.int64), uniforms[row])
        found = masks.build(codebooks, time, **asked, draws=draws)
        np.testing.assert_array_equal(found, told[f"build_mask_{number:02}"][row])


@pytest.mark.parametrize(("period", "width"), [(7, 1), (7, 2), (7, 3), (5, 4), (3, 5), (60, 1)])
def test_the_periodic_prompt_is_upstreams(told, period, width):
    np.testing.assert_array_equal(masks.periodic(57, period, width, 0), told[f"periodic_mask_p{period}_w{width}"])


def test_prefix_and_suffix_are_upstreams(told):
    np.testing.assert_array_equal(masks.inpaint(57, 9, 4), told["inpaint_9_4"])


def test_as_many_steps_are_dropped_as_upstream_drops(cases):
    for case in cases:
        dropout = case["kwargs"].get("_dropout", 0.0)
        assert len(masks.draw(0, *case["shape"][1:], 7, dropout).dropped) == len(case["dropout_steps"])


# One control


@given(st.integers(1, 60), st.integers(1, 70), st.integers(1, 9), st.integers(0, 69))
def test_the_prompt_is_half_a_width_around_each_multiple_and_rolled(time, period, width, roll):
    expected = [1] * time
    for multiple in range(0, time, period):
        for step in range(max(0, multiple - width // 2), min(time, multiple + width // 2 + 1)):
            expected[step] = 0
    found = masks.periodic(time, period, width, roll)
    assert [found[(step + roll) % time] for step in range(time)] == expected


def test_an_even_width_keeps_one_step_more():
    assert masks.periodic(11, 5, 2, 0).tolist() == [0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0]


def test_a_multiple_at_the_very_end_keeps_nothing_before_it():
    assert masks.periodic(10, 5, 3, 0).tolist() == [0, 0, 1, 1, 0, 0, 0, 1, 1, 1]


def test_what_is_rolled_out_at_the_end_comes_in_at_the_start():
    assert masks.periodic(9, 4, 1, 3).tolist() == [1, 1, 0, 0, 1, 1, 1, 0, 1]


@given(st.integers(1, 60), st.integers(1, 9))
def test_a_period_of_0_is_no_prompt(time, width):
    assert masks.periodic(time, 0, width, 0).all()


@pytest.mark.parametrize(("prefix", "suffix"), [(3, 2), (4, 4), (5, 0), (0, 9), (9, 9)])
def test_prefix_and_suffix_may_cover_all(prefix, suffix):
    assert not masks.inpaint(5, prefix, suffix).any()


def test_a_uniform_at_the_intensity_is_kept():
    assert masks.at_random(np.array([[0, 0.25, 0.5, 0.75]], np.float32), 0.5).tolist() == [[1, 1, 0, 0]]


@pytest.mark.parametrize("change", [lambda mask: masks.drop(mask, np.array([1])),
                                    lambda mask: masks.keep_codebooks(mask, 1),
                                    lambda mask: masks.mask_codebooks(mask, 1)])
def test_a_control_leaves_the_mask_that_it_changes_as_it_was(change):
    mask = np.eye(2, dtype=np.int64)
    assert not np.array_equal(change(mask), mask)
    np.testing.assert_array_equal(mask, np.eye(2))


# All controls together


@given(controls, seeds)
def test_a_mask_is_0_and_1_in_64_bits(asked, seed):
    mask, _ = made(asked, seed)
    assert mask.shape == (asked["codebooks"], asked["time"]) and mask.dtype == np.int64
    assert np.isin(mask, (0, 1)).all()


@given(controls, seeds)
def test_upper_codebooks_are_masked_whatever_the_others_say(asked, seed):
    mask, _ = made(asked, seed)
    assert mask[asked["upper_codebook_mask"]:].all()


@given(controls, seeds)
def test_the_first_codebooks_are_kept_below_the_upper_ones(asked, seed):
    mask, _ = made(asked, seed)
    assert not mask[:min(asked["ncc"], asked["upper_codebook_mask"])].any()


@given(controls, seeds)
def test_prefix_and_suffix_are_kept_below_the_upper_codebooks(asked, seed):
    mask, _ = made(asked, seed, dropout=0)
    below, time = mask[:asked["upper_codebook_mask"]], asked["time"]
    assert not below[:, :asked["prefix"]].any() and not below[:, max(0, time - asked["suffix"]):].any()


@given(controls, seeds)
def test_dropped_steps_are_masked_but_for_the_first_codebooks(asked, seed):
    mask, draws = made(asked, seed)
    assert mask[asked["ncc"]:, draws.dropped].all()


@given(controls, seeds)
def test_an_intensity_of_0_masks_what_is_dropped_and_above_alone(asked, seed):
    mask, draws = made(asked, seed, rand_mask_intensity=0)
    others = np.setdiff1d(np.arange(asked["time"]), draws.dropped)
    assert not mask[:asked["upper_codebook_mask"], others].any()


@given(controls, seeds, st.floats(0, 1))
def test_more_intensity_masks_what_less_did_and_more(asked, seed, intensity):
    less, more = sorted((asked["rand_mask_intensity"], intensity))
    assert (made(asked, seed, rand_mask_intensity=less)[0] <= made(asked, seed, rand_mask_intensity=more)[0]).all()


# What is drawn


@given(controls, seeds)
def test_draws_are_in_their_ranges(asked, seed):
    time, period = asked["time"], asked["periodic_prompt"]
    draws = masks.draw(seed, asked["codebooks"], time, period, asked["dropout"])
    assert 0 <= draws.roll < max(1, period)
    assert draws.dropped.dtype == np.int64 and draws.dropped.shape == (int(time * asked["dropout"]),)
    assert ((draws.dropped >= 0) & (draws.dropped < time)).all()
    assert draws.uniforms.dtype == np.float32 and draws.uniforms.shape == (asked["codebooks"], time)
    assert ((draws.uniforms >= 0) & (draws.uniforms < 1)).all()


def test_every_roll_and_every_step_is_drawn_now_and_then():
    drawn = [masks.draw(seed, 1, 10, 7, 1) for seed in range(100)]
    assert {draws.roll for draws in drawn} == set(range(7))
    assert set(np.concatenate([draws.dropped for draws in drawn]).tolist()) == set(range(10))


@given(controls, seeds)
def test_the_same_seed_gives_the_same_mask(asked, seed):
    np.testing.assert_array_equal(made(asked, seed)[0], made(asked, seed)[0])


def test_another_seed_gives_another_mask():
    found = {made(PLAIN, seed, rand_mask_intensity=0.5)[0].tobytes() for seed in range(20)}
    assert len(found) == 20


def test_more_dropout_leaves_the_other_draws_as_they_were():
    some, more = (masks.draw(3, 14, 57, 7, dropout) for dropout in (0.2, 0.9))
    assert some.roll == more.roll and np.array_equal(some.uniforms, more.uniforms)


# What is refused


@pytest.mark.parametrize(("wrong", "said"), [
    ({"periodic_prompt": -1}, "PERIODIC=-1: expected 0 or more, found -1: 0 gives no prompt"),
    ({"periodic_prompt_width": 0}, "periodic_prompt_width=0: expected 1 or more, found 0: 1 keeps single steps"),
    ({"upper_codebook_mask": -1}, "UPPER=-1: expected 0 to 14, found -1: 14 leaves all to the other controls"),
    ({"upper_codebook_mask": 15}, "UPPER=15: expected 0 to 14, found 15: 14 leaves all to the other controls"),
    ({"prefix": -1}, "PREFIX=-1: expected 0 or more, found -1: 0 keeps nothing of the start"),
    ({"suffix": -1}, "SUFFIX=-1: expected 0 or more, found -1: 0 keeps nothing of the end"),
    ({"dropout": -0.1}, "DROPOUT=-0.1: expected 0 to 1, found -0.1: 0 drops nothing"),
    ({"dropout": 1.5}, "DROPOUT=1.5: expected 0 to 1, found 1.5: 0 drops nothing"),
    ({"dropout": math.nan}, "DROPOUT=nan: expected 0 to 1, found nan: 0 drops nothing"),
    ({"rand_mask_intensity": -0.1},
     "rand_mask_intensity=-0.1: expected 0 to 1, found -0.1: 1 masks all that isn't kept otherwise"),
    ({"rand_mask_intensity": 1.1},
     "rand_mask_intensity=1.1: expected 0 to 1, found 1.1: 1 masks all that isn't kept otherwise"),
    ({"ncc": -1}, "ncc=-1: expected 0 to 14, found -1: 0 keeps no codebook throughout"),
    ({"ncc": 15}, "ncc=15: expected 0 to 14, found 15: 0 keeps no codebook throughout"),
])
def test_a_value_out_of_its_range_is_refused(wrong, said):
    with pytest.raises(Refusal) as refusal:
        masks.build(14, 57, **wrong, draws=masks.draw(0, 14, 57, 7, 0))
    assert str(refusal.value) == said


@pytest.mark.parametrize(("period", "dropout", "said"), [(-1, 0, "PERIODIC=-1"), (7, -0.1, "DROPOUT=-0.1"),
                                                         (7, 1.5, "DROPOUT=1.5"), (7, math.nan, "DROPOUT=nan")])
def test_nothing_is_drawn_for_a_value_out_of_its_range(period, dropout, said):
    with pytest.raises(Refusal, match=f"{said}: expected"):
        masks.draw(0, 14, 57, period, dropout)


@pytest.mark.parametrize("edge", [
    {"periodic_prompt": 0}, {"periodic_prompt_width": 1}, {"upper_codebook_mask": 0}, {"upper_codebook_mask": 14},
    {"prefix": 0}, {"suffix": 0}, {"dropout": 0}, {"dropout": 1}, {"rand_mask_intensity": 0},
    {"rand_mask_intensity": 1}, {"ncc": 0}, {"ncc": 14}])
def test_the_bounds_themselves_are_taken(edge):
    made(PLAIN, **edge)
