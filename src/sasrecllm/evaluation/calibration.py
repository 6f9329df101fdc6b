"""Platt scaling: any score becomes a probability, by two numbers fitted on the validation split.

Every row of a table is calibrated the same way, so that log loss, accuracy, F1 and ECE compare
scores on any scale (a sum of two means, a logit).  The slope is kept positive, so AUC and UAUC do
not change.  Platt, "Probabilistic outputs for support vector machines", 1999.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sasrecllm.types import FloatArray, LabelArray


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
    """Fit by Newton's method on the standardised score, with a tiny ridge for separable data.

    A score that runs against the labels gets the slope of a constant prediction (1e-6): its order
    is kept, its probabilities are the base rate.
    """
    if not len(scores) or scores.std() == 0:
        rate = (labels.sum() + 0.5) / (len(labels) + 1)
        return Calibration(1e-6, float(np.log(rate / (1 - rate))))
    mean, std = scores.mean(), scores.std()
    x = np.stack([(scores - mean) / std, np.ones(len(scores))], axis=1)
    weights, ridge = np.zeros(2), 1e-3
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -35, 35)))
        gradient = x.T @ (p - labels) + ridge * weights
        hessian = (x * (p * (1 - p))[:, None]).T @ x + ridge * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-10:
            break
    slope = max(float(weights[0]), 1e-6)
    return Calibration(slope / std, float(weights[1]) - slope * mean / std)
