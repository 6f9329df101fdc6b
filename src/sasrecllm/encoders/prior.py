"""A prior from titles: an item of few training rows borrows from the items whose words it shares.

A ridge regression predicts the trained encoder's item vectors and biases from item features (words,
attributes).  An item of n training rows keeps n / (n + rows) of its own vector and takes the rest
from the prediction: a new item, which otherwise would have the mean vector of all others, is its
prediction.  This is the posterior mean under a normal prior around the prediction (empirical Bayes;
Morris, "Parametric empirical Bayes inference", 1983, section 2), with one variance ratio for all.

Legend: I items, F features, D encoder width.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from sasrecllm.encoders.sequence import SequentialEncoder
from sasrecllm.types import BoolArray, FloatArray, IntArray

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
    fit = _fitted(features_IF, own_ID, weights_I)
    return _predicted(fit, features_IF), fit.explained


def out_of_fold(features_IF: FloatArray, own_ID: FloatArray, weights_I: FloatArray) -> FloatArray:
    """What :func:`predict_rows` would say of every item if it were new, [I, D]: its fold left out.

    Args:
        weights_I: how far an item's own row is to be trusted; 0 for items that have none.
    """
    fit = _fitted(features_IF, own_ID, weights_I)
    out = _predicted(fit, features_IF)
    if fit.best is None:
        return out
    for outside, solutions in fit.folds:
        items = fit.trained[outside]
        out[items] = fit.mean + features_IF[items] @ solutions[fit.best]
    return out


class _Fit(NamedTuple):
    """The best ridge over the items ``trained``; ``best`` is None where none beats their mean."""

    trained: IntArray
    mean: FloatArray
    best: int | None
    explained: float
    folds: list[tuple[BoolArray, list[FloatArray]]]
    moments: tuple[FloatArray, FloatArray]


def _fitted(features_IF: FloatArray, own_ID: FloatArray, weights_I: FloatArray) -> _Fit:
    trained = np.flatnonzero(weights_I > 0)
    x, y, w = features_IF[trained], own_ID[trained], weights_I[trained]
    mean = (w[:, None] * y).sum(0) / w.sum()
    errors, folds, moments = _folded(x, y - mean, w)
    total = (w[:, None] * (y - mean) ** 2).sum()
    best = int(np.argmin(errors))
    if errors[best] >= total:
        return _Fit(trained, mean, None, 0.0, folds, moments)
    return _Fit(trained, mean, best, float(1 - errors[best] / total), folds, moments)


def _predicted(fit: _Fit, features_IF: FloatArray) -> FloatArray:
    if fit.best is None:
        return np.tile(fit.mean, (len(features_IF), 1))
    return np.asarray(fit.mean + features_IF @ _solutions(*fit.moments)[fit.best])


def _folded(
    x: FloatArray, y: FloatArray, w: FloatArray
) -> tuple[FloatArray, list[tuple[BoolArray, list[FloatArray]]], tuple[FloatArray, FloatArray]]:
    """Weighted squared error of each of RIDGES on items left out; of each fold the items left out, and
    the solutions without them; the moments of all."""
    fold = np.arange(len(x)) % FOLDS
    own = [_moments(x[fold == k], y[fold == k], w[fold == k]) for k in range(FOLDS)]
    gram_FF = np.sum([gram for gram, _ in own], axis=0)
    moment_FD = np.sum([moment for _, moment in own], axis=0)
    errors, folds = np.zeros(len(RIDGES)), []
    for k in range(min(FOLDS, len(x))):
        outside = fold == k
        solutions = _solutions(gram_FF - own[k][0], moment_FD - own[k][1])
        for number, beta_FD in enumerate(solutions):
            missed = x[outside] @ beta_FD - y[outside]
            errors[number] += (w[outside, None] * missed**2).sum()
        folds.append((outside, solutions))
    return errors, folds, (gram_FF, moment_FD)


def _moments(x: FloatArray, y: FloatArray, w: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weighted products of the features with each other [F, F] and with the targets [F, D]."""
    root = np.sqrt(w)[:, None]
    weighted = root * x
    return weighted.T @ weighted, weighted.T @ (root * y)


def _solutions(gram_FF: FloatArray, moment_FD: FloatArray) -> list[FloatArray]:
    """Weighted ridge coefficients [F, D] for each of RIDGES, from one eigendecomposition."""
    values, vectors = np.linalg.eigh(gram_FF)
    turned = vectors.T @ moment_FD
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
    own_ID = rows_of(encoder)
    predicted_ID, explained = predict_rows(features_IF, own_ID, trusted(counts_I))
    keep_I1 = (counts_I / (counts_I + max(rows, 1e-9)))[:, None]
    write_rows(encoder, keep_I1 * own_ID + (1 - keep_I1) * predicted_ID)
    encoder.mark_seen(np.ones(encoder.n_items, dtype=bool))
    return explained


def trusted(counts_I: IntArray) -> FloatArray:
    """How far an item's own row is to be trusted: its training rows, as a share of five more."""
    return np.asarray(counts_I / (counts_I + 5.0), dtype=np.float64)


def rows_of(encoder: SequentialEncoder) -> FloatArray:
    """Vector and bias of every item, [I, D]."""
    n, bias = encoder.n_items, encoder.item_bias
    columns = [encoder.item_table[:n]] + ([bias[:n, None]] if bias is not None else [])
    return torch.cat(columns, dim=1).detach().double().cpu().numpy()


@torch.no_grad()
def write_rows(encoder: SequentialEncoder, rows_ID: FloatArray) -> None:
    """Give every item another vector and bias (:func:`rows_of`), in place."""
    n, bias = encoder.n_items, encoder.item_bias
    rows = torch.from_numpy(rows_ID).to(encoder.item_table)
    encoder.item_table[:n] = rows[:, : encoder.width]
    if bias is not None:
        bias[:n] = rows[:, encoder.width]
