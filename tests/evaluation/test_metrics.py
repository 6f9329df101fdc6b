"""Metrics against scikit-learn and brute force; undefined is None."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from sasrecllm.evaluation import metrics


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
        assert metrics.log_loss(p, labels) == pytest.approx(sklearn_log_loss(labels, p, labels=[0, 1]))
        got = metrics.threshold_metrics(p, labels)
        assert got["accuracy"] == pytest.approx(((p > 0.5) == labels).mean())
        if labels.any() or (p > 0.5).any():
            assert got["f1"] == pytest.approx(f1_score(labels, p > 0.5, zero_division=0))


def test_undefined_is_none_never_nan():
    nothing = np.empty(0)
    none = np.empty(0, dtype=np.int8)
    assert metrics.auc(nothing, none) is None and metrics.log_loss(nothing, none) is None
    assert metrics.ece(nothing, none) is None
    got = metrics.threshold_metrics(np.full(3, 0.1), np.zeros(3, dtype=np.int8))
    assert (got["precision"], got["recall"], got["f1"]) == (None, None, None)


def test_ranking_metrics_by_hand():
    scores = np.array([[3.0, 1, 2], [1.0, 2, 3], [1.0, 1, 0]])  # ranks 1, 3 and 1.5
    got = metrics.ranking_metrics(scores, ks=(1, 2))
    assert got["hr@1"] == pytest.approx(1 / 3) and got["hr@2"] == pytest.approx(2 / 3)
    assert got["ndcg@2"] == pytest.approx((1 + 1 / np.log2(2.5)) / 3)
    assert got["mrr"] == pytest.approx((1 + 1 / 3 + 1 / 1.5) / 3)


def test_ece_of_a_calibrated_and_of_a_boastful_score():
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    labels = (rng.random(20_000) < p).astype(np.int8)
    assert metrics.ece(p, labels) < 0.02
    assert metrics.ece(np.full(20_000, 0.95), labels) == pytest.approx(0.45, abs=0.02)
