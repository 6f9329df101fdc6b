"""Platt scaling: any score becomes a probability, by two numbers fitted on the validation split.

Every row of a table is calibrated the same way, so that log loss, accuracy, F1 and ECE compare
scores on any scale (a sum of two means, a logit).  The slope is kept positive, so AUC and UAUC do
not change.  Platt, "Probabilistic outputs for support vector machines", 1999.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sasrecllm.types import FloatArray, LabelArray

MIN_SLOPE = 1e-6
"""Of the standardised score: small enough to say nothing, large enough to keep the order."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """P(like) = sigmoid(slope * score + intercept)."""

    slope: float = 1.0
    intercept: float = 0.0

    def probabilities(self, scores: FloatArray) -> FloatArray:
        """Calibrated P(like) of each score, any shape."""
        z = np.clip(self.slope * scores + self.intercept, -35, 35)
        return np.asarray(1 / (1 + np.exp(-z)), dtype=np.float64)


def fit_calibration(scores: FloatArray, labels: LabelArray, steps: int = 50) -> Calibration:
    """Fit slope and intercept by Newton's method on the standardised score.

    A ridge of 1e-3 (against a sum over rows) keeps separable data finite.  The slope is bounded
    below by 1e-6 per standard deviation: a score that runs against the labels, or a constant one,
    keeps its order and gets probabilities within a hair of the base rate.

    Args:
        scores, labels: of the validation split, shape [N]; without rows everything is ½.
    """
    rate = (float(labels.sum()) + 0.5) / (len(labels) + 1)
    base = float(np.log(rate / (1 - rate)))
    mean = float(scores.mean()) if len(scores) else 0.0
    spread = float(scores.std()) if len(scores) else 0.0
    if spread <= 1e-12 * max(1.0, abs(mean)):  # constant, but for rounding
        return Calibration(MIN_SLOPE, base - MIN_SLOPE * mean)
    weights = _newton((scores - mean) / spread, labels, steps)
    slope, intercept = float(weights[0]), float(weights[1])
    if slope < MIN_SLOPE:
        slope, intercept = MIN_SLOPE, base
    return Calibration(slope / spread, intercept - slope * mean / spread)


def _newton(score: FloatArray, labels: LabelArray, steps: int, ridge: float = 1e-3) -> FloatArray:
    """Slope and intercept that minimise log loss + ridge·|w|²/2; halves a step that overshoots."""
    x_N2 = np.stack([score, np.ones(len(score))], axis=1)

    def loss(w: FloatArray) -> float:
        z = x_N2 @ w
        return float((np.logaddexp(0, z) - labels * z).sum() + ridge * (w @ w) / 2)

    weights = np.zeros(2)
    now = loss(weights)
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(x_N2 @ weights, -35, 35)))
        gradient = x_N2.T @ (p - labels) + ridge * weights
        hessian = (x_N2 * (p * (1 - p))[:, None]).T @ x_N2 + ridge * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        while loss(weights - step) > now and np.abs(step).max() > 1e-10:
            step = step / 2
        weights = weights - step
        now = loss(weights)
        if np.abs(step).max() < 1e-10:
            break
    return weights
