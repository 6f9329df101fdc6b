"""The Markov chain learns a chain exactly, skips dislikes, and falls back to popularity."""

from __future__ import annotations

import numpy as np
import pytest

from sasrecllm.baselines.markov import MarkovChain, last_liked
from sasrecllm.baselines.train_interactions import TrainRows
from sasrecllm.types import Histories

# Two users whose rows are interleaved in time.  User 0 likes 0, 1, 2 with a dislike of 3 between;
# user 1 likes 0, 1.  So the chain holds 0→1 twice and 1→2 once, nothing to or from 3, nothing
# across users.
ROWS = TrainRows(
    np.array([0, 1, 0, 0, 1, 0]), np.array([0, 0, 3, 1, 1, 2]),
    np.array([1, 1, 0, 1, 1, 1], dtype=np.int8), n_users=2, n_items=4,
)  # fmt: skip
POPULARITY = np.array([3, 3, 2, 1]) / 9  # (likes + 1) / (5 likes + 4 items)


def asked(*histories):
    """Histories as lists of (item, label)."""
    flat = [row for history in histories for row in history]
    return Histories(
        np.full(len(histories), -1),
        np.array([item for item, _ in flat], dtype=np.int64),
        np.array([label for _, label in flat], dtype=np.int8),
        np.arange(len(flat)),
        np.cumsum([0] + [len(h) for h in histories]),
        np.full(len(histories), 100),
    )


def probabilities(history, prior=1.0):
    scores = MarkovChain(ROWS, prior=prior).score(asked(history), np.arange(4)[None])
    return np.exp(scores[0])


def test_transitions_are_those_between_neighbouring_likes_of_one_user():
    table = MarkovChain(ROWS).transitions
    first, second = np.indices((4, 4))
    expected = np.zeros((4, 4))
    expected[0, 1], expected[1, 2] = 2, 1
    assert (table.of(first, second) == expected).all()


def test_probabilities_by_hand():
    assert probabilities([(0, 1)]) == pytest.approx((np.array([0, 2, 0, 0]) + POPULARITY) / 3)
    assert probabilities([(2, 1), (1, 1)]) == pytest.approx((np.array([0, 0, 1, 0]) + POPULARITY) / 2)


def test_each_row_of_the_chain_sums_to_one():
    for last in range(4):
        assert probabilities([(last, 1)], prior=2.5).sum() == pytest.approx(1)


@pytest.mark.parametrize("history", [[], [(0, 0)], [(2, 1)], [(3, 1)], [(-1, 1)], [(99, 1)]])
def test_popularity_where_no_like_leads_on(history):
    assert probabilities(history) == pytest.approx(POPULARITY)


def test_a_later_dislike_does_not_move_the_chain():
    assert probabilities([(0, 1), (1, 0)]) == pytest.approx(probabilities([(0, 1)]))


def test_the_last_like_of_each_history():
    some = asked([(4, 1), (5, 0)], [], [(6, 0)], [(7, 1), (8, 1)], [])
    assert last_liked(some).tolist() == [4, -1, -1, 8, -1]
    assert last_liked(asked([], [])).tolist() == [-1, -1]


def test_a_known_chain_is_followed():
    """Everyone likes 0, 1, …, 9 in this order: after k the chain says k + 1, whatever is popular."""
    rows = TrainRows(
        np.repeat(np.arange(30), 10), np.tile(np.arange(10), 30), np.ones(300, dtype=np.int8),
        n_users=30, n_items=10,
    )  # fmt: skip
    scores = MarkovChain(rows).score(
        asked(*[[(k, 1)] for k in range(9)]), np.tile(np.arange(10), (9, 1))
    )
    assert scores.argmax(axis=1).tolist() == list(range(1, 10))
