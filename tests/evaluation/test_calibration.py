"""Platt scaling: the fit is the optimum, and degenerate validation splits do not break it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from sasrecllm.evaluation.calibration import fit_calibration


def test_equals_logistic_regression():
    rng = np.random.default_rng(0)
    scores = rng.normal(3, 20, 4000)
    labels = (rng.random(4000) < 1 / (1 + np.exp(-(scores / 10 - 1)))).astype(np.int8)
    fitted = fit_calibration(scores, labels)
    known = LogisticRegression(C=1e9, tol=1e-10).fit(scores[:, None], labels)
    assert fitted.slope == pytest.approx(known.coef_[0, 0], rel=1e-3)
    assert fitted.intercept == pytest.approx(known.intercept_[0], abs=1e-3)


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(st.floats(-1e6, 1e6), st.integers(0, 1)), max_size=30
    ),
)  # fmt: skip
def test_any_split_gives_finite_numbers_and_a_positive_slope(rows):
    scores = np.array([r[0] for r in rows], dtype=np.float64)
    labels = np.array([r[1] for r in rows], dtype=np.int8)
    fitted = fit_calibration(scores, labels)
    p = fitted.probabilities(scores)
    assert fitted.slope > 0 and np.isfinite([fitted.slope, fitted.intercept]).all()
    assert ((p > 0) & (p < 1)).all()
    order = np.argsort(scores, kind="stable")
    assert (np.diff(p[order]) >= 0).all()


def test_separable_data_stays_finite():
    scores = np.concatenate([np.linspace(-2, -1, 50), np.linspace(1, 2, 50)])
    fitted = fit_calibration(scores, (scores > 0).astype(np.int8))
    assert 1 < fitted.slope < 100 and fitted.probabilities(np.array([2.0]))[0] > 0.99


def test_backward_and_constant_scores_get_the_base_rate():
    rng = np.random.default_rng(0)
    labels = (rng.random(1000) < 0.3).astype(np.int8)
    base = labels.mean()
    for scores in (1e4 - labels.astype(float), np.full(1000, 1e5)):
        assert fit_calibration(scores, labels).probabilities(scores) == pytest.approx(base, abs=1e-3)
    nobody = fit_calibration(np.array([]), np.array([], dtype=np.int8))
    assert nobody.probabilities(np.array([0.0])) == pytest.approx([0.5])
