"""ItemKNN on a world small enough for the back of an envelope, and against a dense product."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sasrecllm.baselines import catalogue, knn
from sasrecllm.baselines.knn import ItemKNN
from sasrecllm.baselines.train_interactions import TrainRows
from sasrecllm.types import Histories

# Likes: user 0 {0, 1}, user 1 {0, 1}, user 2 {0, 2}.  User 2's dislike of 1 tells nothing.
ROWS = TrainRows(
    np.array([0, 0, 1, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 0, 1, 2]),
    np.array([1, 1, 1, 1, 1, 0, 1], dtype=np.int8), n_users=3, n_items=5,
)  # fmt: skip


def asked(items, labels):
    """One question of an unknown user with this history; the last row stands at its very second."""
    n = len(items)
    return Histories(
        np.array([-1]), np.array(items, dtype=np.int64), np.array(labels, dtype=np.int8),
        np.arange(n), np.array([0, n]), np.array([max(0, n - 1)]),
    )  # fmt: skip


def test_similarities_by_hand():
    cosine = ItemKNN(ROWS, shrink=0.0)
    first, second = np.array([0, 1, 0, 1, 0, 4]), np.array([1, 0, 2, 2, 0, 0])
    expected = [2 / np.sqrt(6), 2 / np.sqrt(6), 1 / np.sqrt(3), 0, 0, 0]
    assert cosine.similarity(first, second) == pytest.approx(expected)
    shrunk = ItemKNN(ROWS, shrink=3.0)
    assert shrunk.similarity(first, second)[0] == pytest.approx(2 / (np.sqrt(6) + 3))


def test_the_score_adds_up_liked_items_alone_over_the_root_of_their_number():
    scorer = ItemKNN(ROWS, shrink=0.0)
    near = [2 / np.sqrt(6), 0.0, 1 / np.sqrt(3)]  # of 1, 3 and 2 to item 0
    both = scorer.score(asked([1, 3, 2], [1, 0, 1]), np.array([[0]]))
    assert both[0, 0] == pytest.approx((near[0] + near[2]) / np.sqrt(2))
    disliked = scorer.score(asked([1, 2], [1, 0]), np.array([[0, 2, 3, 4, -1, 99]]))
    assert disliked[0] == pytest.approx([near[0], 0, 0, 0, 0, 0])
    assert scorer.score(asked([1], [0]), np.array([[0]])) == 0


def test_a_repeated_train_like_counts_once():
    again = TrainRows(
        np.append(ROWS.users, 0), np.append(ROWS.items, 1), np.append(ROWS.labels, np.int8(1)),
        n_users=3, n_items=5,
    )  # fmt: skip
    pairs = np.meshgrid(np.arange(5), np.arange(5))
    assert (ItemKNN(again).similarity(*pairs) == ItemKNN(ROWS).similarity(*pairs)).all()


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([1, 7, 2**22]))
def test_the_sparse_counts_are_the_dense_product_whatever_the_chunks(seed, at_once):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 80))
    rows = TrainRows(
        rng.integers(0, 6, n), rng.integers(0, 8, n), rng.integers(0, 2, n).astype(np.int8),
        n_users=6, n_items=8,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(knn, "PAIRS_AT_ONCE", at_once)
        patch.setattr(catalogue, "PAIRS_AT_ONCE", at_once)
        scorer = ItemKNN(rows, shrink=2.0)
        likes = np.zeros((6, 8))
        likes[rows.users[rows.labels == 1], rows.items[rows.labels == 1]] = 1
        sizes = likes.sum(0)
        dense = likes.T @ likes / (np.sqrt(np.outer(sizes, sizes)) + 2)
        np.fill_diagonal(dense, 0)
        i, j = np.indices((8, 8))
        np.testing.assert_allclose(scorer.similarity(i, j), dense)
        history = rng.integers(0, 8, 5)
        got = scorer.score(asked(history, [1] * 5), np.arange(8)[None])
        np.testing.assert_allclose(got[0], dense[:, history].sum(1) / np.sqrt(5))
