"""Decoding outside of a graph, on networks that are tables."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.mt3 import decode
from models.mt3.inputs import END


def table_step(table, calls=None):
    """A network that says the index-th row of each sequence's table whatever came before; and records what it got."""
    state = iter(range(table.shape[1]))

    def step(tokens):
        if calls is not None:
            calls.append(tokens.copy())
        return table[:, next(state)].astype(np.float32)

    return step


def ended_hypotheses(row):
    """All that one beam can end with: the likeliest tokens that aren't the end up to each step where the end is
    among the two likeliest. After the golden data's description of t5x's beam search.
    """
    logs = row - np.log(np.exp(row).sum(axis=1, keepdims=True))
    going, score = [], 0.0
    for index, line in enumerate(logs):
        order = np.argsort(-line, kind="stable")[:2]
        if END in order:
            yield [*going, END], (score + line[END]) / ((5 + index + 1) / 6) ** 0.6
        token = next(token for token in order if token != END)
        score += line[token]
        going.append(int(token))
    yield going, None


tables = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 12), st.floats(0, 3)).map(
    lambda told: np.random.default_rng(told[0]).normal(size=(told[1], told[2], 6)) + np.eye(6)[END] * told[3])


@given(tables)
def test_beam_gives_the_best_of_all_that_may_end(table):
    batch, length, _ = table.shape
    tokens, scores = decode.beam(table_step(table), batch, length)
    for row in range(batch):
        *ended, (live, _) = ended_hypotheses(table[row])
        if ended:
            best, score = max(ended, key=lambda one: one[1])
            assert tokens[row].tolist() == best + [0] * (length - len(best))
            assert scores[row] == pytest.approx(score, abs=1e-4)
        else:
            assert tokens[row].tolist() == live


@given(tables)
def test_a_row_of_a_batch_is_decoded_as_if_alone(table):
    batch, length, _ = table.shape
    together, _ = decode.beam(table_step(table), batch, length)
    for row in range(batch):
        alone, _ = decode.beam(table_step(table[row:row + 1]), 1, length)
        np.testing.assert_array_equal(together[row], alone[0])


@given(tables)
def test_greedy_takes_the_likeliest_up_to_the_end(table):
    batch, length, _ = table.shape
    tokens = decode.greedy(table_step(table), batch, length)
    for row, likeliest in zip(tokens, table.astype(np.float32).argmax(axis=2)):
        ends = np.flatnonzero(likeliest == END)
        count = ends[0] + 1 if len(ends) else length
        np.testing.assert_array_equal(row[:count], likeliest[:count])
        assert not row[count:].any()


@pytest.mark.parametrize("loop", [decode.greedy, decode.beam])
def test_a_step_is_told_the_token_before_and_first_0(loop):
    table = np.full((1, 4, 5), -9.0)
    table[0, range(4), [3, 4, 2, 3]] = 9
    calls = []
    loop(table_step(table, calls), 1, 4)
    assert np.concatenate(calls).tolist() == [0, 3, 4, 2]


@pytest.mark.parametrize("loop", [decode.greedy, decode.beam])
def test_decoding_stops_when_no_row_can_change_any_more(loop):
    table = np.zeros((2, 100, 5))
    table[:, :, 3] = 1
    table[0, 4, END] = table[1, 7, END] = 40
    calls = []
    loop(table_step(table, calls), 2, 100)
    assert len(calls) == 8
