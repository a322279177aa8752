"""Decoding outside of a graph: the likeliest tokens one by one, or as the original does it, with beam search.

A step takes tokens int64 [batch], 0 at the start, and returns logits float32 [batch, vocabulary] for what
comes next; it keeps what it has heard and written.
"""

from collections.abc import Callable

import numpy as np

from models.mt3.inputs import END

ALPHA = 0.6  # how much long sequences are favoured
Step = Callable[[np.ndarray], np.ndarray]


def greedy(step: Step, batch: int, length: int) -> np.ndarray:
    """The likeliest token each time, int64 [batch, length]: END ends a row, 0 comes after.

    temperature_sample in t5x/decoding.py, at temperature 0.
    """
    tokens = np.zeros((batch, length + 1), np.int64)
    ended = np.zeros(batch, bool)
    for index in range(length):
        tokens[:, index + 1] = np.where(ended, 0, step(tokens[:, index]).argmax(axis=1))
        ended |= tokens[:, index + 1] == END
        if ended.all():
            break
    return tokens[:, 1:]


def beam(step: Step, batch: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The best ended sequence, int64 [batch, length], 0 after its END, and its score, float32 [batch].

    beam_search in t5x/decoding.py with one beam, as the original has it. Each step ends a hypothesis where END is
    among the two likeliest tokens, with the score log p / ((5 + tokens) / 6) ** ALPHA, and goes on with the
    likelier other one. A row is done when nothing that may follow can beat what has ended; where nothing has, it
    is the row that went on, and its score is its log p.
    """
    rows = np.arange(batch)
    live, ended = np.zeros((2, batch, length + 1), np.int64)
    going, best = np.zeros(batch, np.float32), np.full(batch, -np.inf, np.float32)
    for index in range(length):
        scores = log_softmax(step(live[:, index])) + going[:, None]
        first = scores.argmax(axis=1)
        score = scores[rows, first]
        scores[rows, first] = -np.inf
        second = scores.argmax(axis=1)
        is_first = first == END
        finishing = is_first | (second == END)
        finished = np.where(is_first, score, scores[rows, second]) / penalty(index + 1)
        better = finishing & (finished > best)
        best[better], ended[better] = finished[better], live[better]
        ended[better, index + 1] = END
        live[:, index + 1] = np.where(is_first, second, first)
        going = np.where(is_first, scores[rows, second], score)
        if (best > going / penalty(length + 1)).all():
            break
    any_ended = best > -np.inf
    return np.where(any_ended[:, None], ended, live)[:, 1:], np.where(any_ended, best, going)


def penalty(tokens: int) -> np.float32:
    return np.power(np.float32((5 + tokens) / 6), np.float32(ALPHA))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
