"""Ranking metrics against scikit-learn, against all orders of a tie, and by hand."""

from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from sasrecllm.evaluation.ranking import hr_at_k, metrics_of_ranks, ndcg_at_k


def cases(count, most=40):
    rng = np.random.default_rng(1)
    for _ in range(count):
        n = int(rng.integers(2, most))
        yield (
            np.round(rng.normal(size=n), int(rng.integers(0, 3))),
            rng.integers(0, 2, n).astype(np.int8),
            rng.integers(0, 3, n),
        )


def with_both(labels, users):
    return [u for u in np.unique(users) if len(set(labels[users == u])) == 2]


@pytest.mark.parametrize("k", [1, 3, 10, 100])
def test_ndcg_per_user_equals_scikit_learn_with_ties(k):
    for scores, labels, users in cases(150):
        each = [
            ndcg_score(labels[users == u][None], scores[users == u][None], k=k)
            for u in with_both(labels, users)
        ]
        got = ndcg_at_k(scores, labels, users, k)
        assert (got.scored, got.total) == (len(each), len(np.unique(users)))
        assert got.value == (pytest.approx(np.mean(each), abs=1e-9) if each else None)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_hit_rate_is_the_mean_over_all_orders_of_tied_rows(k):
    for scores, labels, users in cases(60, most=7):
        each = []
        for user in with_both(labels, users):
            own, liked = scores[users == user], labels[users == user]
            orders = [
                p for p in permutations(range(len(own))) if (np.diff(own[list(p)]) <= 0).all()
            ]  # fmt: skip
            each.append(np.mean([liked[list(p[:k])].any() for p in orders]))
        got = hr_at_k(scores, labels, users, k)
        assert got.value == (pytest.approx(np.mean(each), abs=1e-9) if each else None)


def test_nobody_with_both_labels_is_none_and_counted():
    scores, users = np.arange(4.0), np.array([0, 0, 1, 1])
    for metric in (hr_at_k, ndcg_at_k):
        assert metric(scores, np.array([1, 1, 0, 0], dtype=np.int8), users, 5) == (None, 0, 2)
        nothing = np.array([], dtype=np.int64)
        assert metric(nothing.astype(float), nothing.astype(np.int8), nothing, 5) == (None, 0, 0)


def test_one_candidate_and_k_beyond_the_candidates_say_nothing():
    assert set(metrics_of_ranks(np.ones(3), 1).values()) == {None}
    assert set(metrics_of_ranks(np.ones(0), 5).values()) == {None}
    got = metrics_of_ranks(np.array([3.0]), 3, ks=(2, 3))
    assert got["hr@2"] == 0 and got["hr@3"] is None and got["ndcg@3"] == 0.5
