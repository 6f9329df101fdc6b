"""Metrics as plain functions of scores and labels; they know no model.

Where a metric is undefined it is ``None``, never NaN and never .5: AUC needs both classes, precision
a positive answer, a mean per user at least one user it is defined for.  Ties count half, or by the
mean over all orders of the tied rows.  A score that is NaN has no place in any order and is refused.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sasrecllm.errors import DivergedError
from sasrecllm.types import FloatArray, IntArray, LabelArray


class PerUser(NamedTuple):
    """A mean over users, the users it is defined for, and all users."""

    value: float | None
    scored: int
    total: int


def auc(scores: FloatArray, labels: LabelArray) -> float | None:
    """Area under the ROC curve: P(score of a liked row > score of another), ties half.

    >>> auc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([0, 0, 1, 1], dtype=np.int8))
    0.875
    """
    return uauc(scores, labels, np.zeros(len(scores), dtype=np.int64)).value


def uauc(scores: FloatArray, labels: LabelArray, users: IntArray) -> PerUser:
    """Unweighted mean of the AUC of every user who has both labels; the others are counted.

    One sort by (user, score) and segment sums: the AUC of a user is
    (rank sum of the liked rows − n₊(n₊+1)/2) / (n₊ n₋), with mean ranks for ties.
    """
    values, _ = auc_by_user(scores, labels, users)
    defined = values[~np.isnan(values)]
    mean = float(defined.mean()) if len(defined) else None
    return PerUser(mean, len(defined), len(values))


def auc_by_user(scores: FloatArray, labels: LabelArray, users: IntArray) -> tuple[FloatArray, IntArray]:
    """AUC of each distinct user (NaN where only one label occurs) and the users, ascending.

    Raises:
        DivergedError: a score is NaN.
    """
    refuse_nan(scores)
    if not len(scores):
        return np.empty(0), np.empty(0, dtype=np.int64)
    order = np.lexsort((scores, users))
    score, label, user = scores[order], labels[order].astype(np.float64), users[order]
    new_user = np.concatenate([[True], user[1:] != user[:-1]])
    new_tie = new_user | np.concatenate([[True], score[1:] != score[:-1]])
    starts = np.flatnonzero(new_user)
    segment = np.cumsum(new_user) - 1
    position = np.arange(len(score)) - starts[segment] + 1.0
    tie = np.cumsum(new_tie) - 1
    rank = (np.bincount(tie, position) / np.bincount(tie))[tie]
    positives = np.bincount(segment, label)
    negatives = np.bincount(segment) - positives
    rank_sum = np.bincount(segment, rank * label)
    pairs = positives * negatives
    area = rank_sum - positives * (positives + 1) / 2
    return np.where(pairs > 0, area / np.maximum(pairs, 1), np.nan), user[starts]


def log_loss(probabilities: FloatArray, labels: LabelArray) -> float | None:
    """Mean −log P(label), in nats; None without rows."""
    return float(row_log_loss(probabilities, labels).mean()) if len(labels) else None


def row_log_loss(probabilities: FloatArray, labels: LabelArray) -> FloatArray:
    """−log P(label) of each row, in nats; probabilities are kept 1e-12 away from 0 and 1."""
    p = np.clip(probabilities, 1e-12, 1 - 1e-12)
    return np.asarray(-np.where(labels == 1, np.log(p), np.log1p(-p)), dtype=np.float64)


def threshold_metrics(probabilities: FloatArray, labels: LabelArray) -> dict[str, float | None]:
    """Accuracy, precision, recall and F1 of the answer "P > ½"."""
    said, liked = probabilities > 0.5, labels == 1
    hits = float((said & liked).sum())
    return {
        "accuracy": float((said == liked).mean()) if len(labels) else None,
        "precision": hits / float(said.sum()) if said.any() else None,
        "recall": hits / float(liked.sum()) if liked.any() else None,
        "f1": 2 * hits / float(said.sum() + liked.sum()) if (said | liked).any() else None,
    }


def ece(probabilities: FloatArray, labels: LabelArray, bins: int = 10) -> float | None:
    """Expected calibration error: mean |share liked − mean probability| over equal-width bins."""
    if not len(labels):
        return None
    share, mean, count = calibration_curve(probabilities, labels, bins)
    return float((np.abs(share - mean) * count).sum() / len(labels))


def calibration_curve(
    probabilities: FloatArray, labels: LabelArray, bins: int = 10
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Share liked, mean probability and row count of each equal-width bin that has rows."""
    index = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    count = np.bincount(index, minlength=bins).astype(np.float64)
    full = count > 0
    share = np.bincount(index, labels, minlength=bins)[full] / count[full]
    mean = np.bincount(index, probabilities, minlength=bins)[full] / count[full]
    return share, mean, count[full]


def refuse_nan(scores: FloatArray) -> None:
    """Stop before a NaN takes part in an order, where it would count as the highest score.

    Raises:
        DivergedError: a score is NaN; says how many and where the first stands.
    """
    bad = np.flatnonzero(np.isnan(scores))
    if len(bad):
        raise DivergedError(
            f"{len(bad)} of {scores.size} scores are NaN, the first at position {bad[0]}",
            "look for the step at which the model's loss stopped being finite",
        )
