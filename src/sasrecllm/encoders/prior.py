"""A prior from titles: an item of few training rows borrows from the items whose words it shares.

A ridge regression predicts the trained encoder's item vectors and biases from item features (words,
attributes).  An item of n training rows keeps n / (n + rows) of its own vector and takes the rest
from the prediction: a new item, which otherwise would have the mean vector of all others, is its
prediction.  This is the posterior mean under a normal prior around the prediction (empirical Bayes;
Morris, "Parametric empirical Bayes inference", 1983, section 2), with one variance ratio for all.

Legend: I items, F features, D encoder width.
"""

from __future__ import annotations

import numpy as np
import torch

from sasrecllm.encoders.sequence import SequentialEncoder
from sasrecllm.types import FloatArray, IntArray

RIDGES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
FOLDS = 5
ROWS = 2.0
"""Strength of the prior, in training rows."""


def predict_rows(
    features_IF: FloatArray, own_ID: FloatArray, weights_I: FloatArray
) -> tuple[FloatArray, float]:
    """Ridge prediction of every item's row [I, D], and the share of variance it explains out of fold.

    Items fall into folds by their position; the ridge with the least weighted squared error on items
    left out is taken.  Where none beats the mean, every prediction is the mean and the share is 0.

    Args:
        weights_I: how far an item's own row is to be trusted; 0 for items that have none.
    """
    trained = np.flatnonzero(weights_I > 0)
    x, y, w = features_IF[trained], own_ID[trained], weights_I[trained]
    mean = (w[:, None] * y).sum(0) / w.sum()
    fold = np.arange(len(trained)) % FOLDS
    errors = np.zeros(len(RIDGES))
    for k in range(min(FOLDS, len(trained))):
        inside, outside = fold != k, fold == k
        for number, beta_FD in enumerate(_solutions(x[inside], y[inside] - mean, w[inside])):
            missed = x[outside] @ beta_FD - (y[outside] - mean)
            errors[number] += (w[outside, None] * missed**2).sum()
    total = (w[:, None] * (y - mean) ** 2).sum()
    best = int(np.argmin(errors))
    if errors[best] >= total:
        return np.tile(mean, (len(own_ID), 1)), 0.0
    beta_FD = _solutions(x, y - mean, w)[best]
    return mean + features_IF @ beta_FD, float(1 - errors[best] / total)


def _solutions(x: FloatArray, y: FloatArray, w: FloatArray) -> list[FloatArray]:
    """Weighted ridge coefficients [F, D] for each of RIDGES, from one eigendecomposition."""
    values, vectors = np.linalg.eigh(x.T @ (w[:, None] * x))
    turned = vectors.T @ (x.T @ (w[:, None] * y))
    return [vectors @ (turned / (np.maximum(values, 0) + r)[:, None]) for r in RIDGES]


@torch.no_grad()
def apply_prior(
    encoder: SequentialEncoder, features_IF: FloatArray, counts_I: IntArray, rows: float = ROWS
) -> float | None:
    """Shrink the item vectors and biases of a trained ``encoder`` to their predictions, in place.

    Args:
        counts_I: training rows of each item.
        rows: strength of the prior, as that many training rows.

    Returns:
        Share of the items' variance that the prediction explains out of fold; None, and the encoder
        as it was, where no two items share a feature or no item was ever trained.
    """
    if not features_IF.shape[1] or not counts_I.any():
        return None
    n, bias = encoder.n_items, encoder.item_bias
    columns = [encoder.item_table[:n]] + ([bias[:n, None]] if bias is not None else [])
    own_ID = torch.cat(columns, dim=1).double().cpu().numpy()
    predicted_ID, explained = predict_rows(features_IF, own_ID, counts_I / (counts_I + 5.0))
    keep_I1 = (counts_I / (counts_I + max(rows, 1e-9)))[:, None]
    mixed = torch.from_numpy(keep_I1 * own_ID + (1 - keep_I1) * predicted_ID)
    mixed = mixed.to(encoder.item_table)
    encoder.item_table[:n] = mixed[:, : encoder.width]
    if bias is not None:
        bias[:n] = mixed[:, encoder.width]
    encoder.mark_seen(np.ones(n, dtype=bool))
    return explained
