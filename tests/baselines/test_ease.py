"""EASE against the paper's formula, in both of its forms, and what it leaves out."""

from __future__ import annotations

import numpy as np
import pytest

from sasrecllm.baselines.ease import EASE
from sasrecllm.baselines.train_interactions import TrainRows
from sasrecllm.types import Histories


def rows_of(likes, repeats=1):
    """Training rows of a matrix of likes [users, items]; the zeros are dislikes."""
    users, items = np.indices(likes.shape)
    labels = likes.ravel().astype(np.int8)
    return TrainRows(
        np.tile(users.ravel(), repeats), np.tile(items.ravel(), repeats), np.tile(labels, repeats),
        n_users=likes.shape[0], n_items=likes.shape[1],
    )  # fmt: skip


def asked(*rows, labels=None):
    """One question for each list of items; all liked unless told."""
    items = np.array([item for row in rows for item in row], dtype=np.int64)
    offsets = np.cumsum([0, *map(len, rows)])
    given = np.ones(len(items), dtype=np.int8) if labels is None else np.array(labels, dtype=np.int8)
    n = len(rows)
    return Histories(np.full(n, -1), items, given, np.arange(len(items)), offsets, np.full(n, 99))


def steck(likes, ridge):
    """Equation 8 of the paper, word for word."""
    inverse = np.linalg.inv(likes.T @ likes + ridge * np.eye(likes.shape[1]))
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights


@pytest.mark.parametrize("users, items", [(40, 9), (7, 30), (12, 12)])
def test_the_weights_are_the_papers_whichever_of_users_and_items_are_fewer(users, items):
    likes = (np.random.default_rng(users).random((users, items)) < 0.3).astype(float)
    likes[0] = 1  # so that every item is liked
    scorer = EASE(rows_of(likes), ridge=3.0)
    # Single precision is stored: 1e-6 of weights of order 1.
    np.testing.assert_allclose(scorer.weights, steck(likes, 3.0), atol=1e-6)
    got = scorer.scores(asked([2, 5], [4]))
    np.testing.assert_allclose(got[0], steck(likes, 3.0)[[2, 5]].sum(0), atol=1e-5)
    np.testing.assert_allclose(got[1], steck(likes, 3.0)[4], atol=1e-5)


def test_repeats_dislikes_and_foreign_items_add_nothing():
    likes = (np.random.default_rng(1).random((20, 6)) < 0.4).astype(float)
    likes[0] = 1
    once, twice = EASE(rows_of(likes), ridge=2.0), EASE(rows_of(likes, repeats=2), ridge=2.0)
    np.testing.assert_array_equal(once.weights, twice.weights)
    plain = once.scores(asked([1, 2]))
    noisy = once.scores(asked([1, 2, 3, 1, -1, 99], labels=[1, 1, 0, 1, 1, 1]))
    np.testing.assert_array_equal(plain, noisy)
    assert (once.scores(asked([])) == 0).all()


def test_only_the_most_liked_items_have_a_place():
    likes = np.zeros((8, 5))
    likes[:6, 0] = likes[:5, 3] = likes[:4, 2] = 1
    likes[7, 4] = 1  # one like; item 1 has none
    few = EASE(rows_of(likes), ridge=1.0, most=2)
    assert few.kept.tolist() == [0, 3]
    np.testing.assert_allclose(few.weights, steck(likes[:, [0, 3]], 1.0), atol=1e-6)
    scores = few.scores(asked([0, 2]))
    assert scores[0, 3] > 0 and scores[0, [1, 2, 4]].tolist() == [0, 0, 0]
    assert EASE(rows_of(likes)).kept.tolist() == [0, 2, 3, 4]


def test_it_recommends_within_the_group_that_is_liked_together():
    likes = np.zeros((60, 8))
    rng = np.random.default_rng(0)
    for user in range(60):
        group = np.arange(4) + 4 * (user % 2)
        likes[user, rng.permutation(group)[:3]] = 1
    scores = EASE(rows_of(likes), ridge=5.0).scores(asked([0, 1], [6]))
    assert min(scores[0, 2:4]) > max(scores[0, 4:])
    assert min(scores[1, [4, 5, 7]]) > max(scores[1, :4])


def test_with_a_half_life_the_latest_likes_speak_louder():
    likes = (np.random.default_rng(3).random((30, 7)) < 0.4).astype(float)
    likes[0] = 1
    weights = steck(likes, 4.0)
    scorer = EASE(rows_of(likes), ridge=4.0, half_life=1.0)
    got = scorer.scores(asked([2, 5, 6], [3, 1, 3], [-1, 4]))
    np.testing.assert_allclose(got[0], [0.25, 0.5, 1] @ weights[[2, 5, 6]], atol=1e-5)
    # The item of the first place is liked again later, and counts as it does there.
    np.testing.assert_allclose(got[1], weights[3] + 0.5 * weights[1], atol=1e-5)
    np.testing.assert_allclose(got[2], weights[4], atol=1e-5)
