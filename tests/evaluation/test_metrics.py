"""Metrics against scikit-learn and brute force; undefined is None."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from sasrecllm.errors import DivergedError
from sasrecllm.evaluation import metrics
from sasrecllm.evaluation.ranking import metrics_of_ranks, positive_ranks


def cases(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        n = int(rng.integers(2, 60))
        yield (
            np.round(rng.normal(size=n), int(rng.integers(0, 3))),  # few digits make ties
            (rng.random(n) < rng.random()).astype(np.int8),
            rng.integers(0, 8, n),
        )


def test_auc_equals_scikit_learn_with_ties():
    for scores, labels, _ in cases(1000):
        ours = metrics.auc(scores, labels)
        if labels.min() == labels.max():
            assert ours is None
        else:
            assert ours == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)


def test_uauc_equals_brute_force_and_counts_users():
    for scores, labels, users in cases(300):
        each = [
            roc_auc_score(labels[users == u], scores[users == u])
            for u in np.unique(users)
            if len(set(labels[users == u])) == 2
        ]
        got = metrics.uauc(scores, labels, users)
        assert (got.scored, got.total) == (len(each), len(np.unique(users)))
        assert got.value == (pytest.approx(np.mean(each), abs=1e-9) if each else None)


def test_probability_metrics_equal_scikit_learn():
    for scores, labels, _ in cases(300):
        p = 1 / (1 + np.exp(-scores))
        assert metrics.log_loss(p, labels) == pytest.approx(
            sklearn_log_loss(labels, p, labels=[0, 1]), abs=1e-9
        )
        got = metrics.threshold_metrics(p, labels)
        assert got["accuracy"] == pytest.approx(((p > 0.5) == labels).mean(), abs=1e-9)
        if labels.any() or (p > 0.5).any():
            assert got["f1"] == pytest.approx(f1_score(labels, p > 0.5, zero_division=0), abs=1e-9)


def test_undefined_is_none_never_nan():
    nothing = np.empty(0)
    none = np.empty(0, dtype=np.int8)
    assert metrics.auc(nothing, none) is None and metrics.log_loss(nothing, none) is None
    assert metrics.ece(nothing, none) is None
    got = metrics.threshold_metrics(np.full(3, 0.1), np.zeros(3, dtype=np.int8))
    assert (got["precision"], got["recall"], got["f1"]) == (None, None, None)


def test_metrics_of_candidate_lists_by_hand():
    scores = np.array([[3.0, 1, 2], [1.0, 2, 3], [1.0, 1, 0]])  # ranks 1, 3 and 1.5
    got = metrics_of_ranks(positive_ranks(scores), 3, ks=(1, 2))
    assert got["hr@1"] == pytest.approx(1 / 3) and got["hr@2"] == pytest.approx(2 / 3)
    assert got["ndcg@2"] == pytest.approx((1 + 1 / np.log2(2.5)) / 3)
    assert got["mrr"] == pytest.approx((1 + 1 / 3 + 1 / 1.5) / 3)


def test_a_nan_score_is_refused_and_not_taken_for_the_highest():
    scores, labels = np.array([0.1, np.nan, 0.3]), np.array([0, 1, 0], dtype=np.int8)
    with pytest.raises(DivergedError, match="1 of 3 scores are NaN, the first at position 1"):
        metrics.auc(scores, labels)
    infinite = np.array([-np.inf, np.inf, 0.3])  # have a place in the order
    assert metrics.auc(infinite, labels) == 1.0


def test_precision_and_recall_equal_scikit_learn():
    for scores, labels, _ in cases(200):
        p = 1 / (1 + np.exp(-scores))
        got = metrics.threshold_metrics(p, labels)
        for name, known in (("precision", precision_score), ("recall", recall_score)):
            if got[name] is not None:
                assert got[name] == pytest.approx(known(labels, p > 0.5), abs=1e-9)


def test_ece_equals_a_loop_over_the_bins():
    rng = np.random.default_rng(0)
    for n in (1, 7, 500):
        p, labels = np.append(rng.random(n), [0.0, 1.0]), np.append(rng.integers(0, 2, n), [0, 1])
        total = 0.0
        for b in range(10):
            inside = (p >= b / 10) & ((p < (b + 1) / 10) | (b == 9))
            if inside.any():
                total += inside.sum() * abs(labels[inside].mean() - p[inside].mean())
        assert metrics.ece(p, labels.astype(np.int8)) == pytest.approx(total / (n + 2), abs=1e-9)


def test_ece_of_a_calibrated_and_of_a_boastful_score():
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    labels = (rng.random(20_000) < p).astype(np.int8)
    assert metrics.ece(p, labels) < 0.02
    assert metrics.ece(np.full(20_000, 0.95), labels) == pytest.approx(0.45, abs=0.02)
