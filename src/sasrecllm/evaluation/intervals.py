"""95 % intervals: users are resampled, because the rows of one user depend on one another.

The same resamples serve every row of a table, so differences between two rows are paired.

Legend: R resamples, U users, N rows, K distinct scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sasrecllm.evaluation.metrics import auc_by_user
from sasrecllm.types import FloatArray, IntArray, LabelArray


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and its 95 % interval; None where undefined."""

    value: float | None
    low: float | None
    high: float | None

    def to_list(self) -> list[float | None]:
        """[value, low, high] for JSON."""
        return [self.value, self.low, self.high]


class UserBootstrap:
    """Seeded resamples of the users of one set of rows; of a single user there are none to tell apart,
    so that no interval is defined.

    Args:
        users: user of each row, shape [N].
        resamples: R; 1,000 puts the ends of an interval within a few percent of its width.
    """

    def __init__(self, users: IntArray, resamples: int = 1000, seed: int = 0) -> None:
        _, self.user = np.unique(users, return_inverse=True)
        self.n_users = int(self.user.max(initial=-1)) + 1
        rng = np.random.default_rng([seed, self.n_users])
        # Two bytes a count: 1,000 resamples of 100,000 users are 200 MB.
        self.counts_RU = np.zeros((resamples, self.n_users), dtype=np.uint16)
        for draw in self.counts_RU if self.n_users > 1 else ():
            picked = rng.integers(0, max(1, self.n_users), self.n_users)
            draw[:] = np.bincount(picked, minlength=self.n_users)

    def auc(self, scores: FloatArray, labels: LabelArray) -> FloatArray:
        """AUC of every resample, shape [R]; NaN where a resample has one label only.

        Rows weigh as often as their user was drawn.  Scores are sorted once: with P and M the
        weights of liked and other rows at each distinct score, the area is
        Σ P (M before + M/2) / (ΣP ΣM).
        """
        if not len(scores):
            return np.full(len(self.counts_RU), np.nan)
        _, level = np.unique(scores, return_inverse=True)
        order = np.argsort(level, kind="stable")
        bounds = np.flatnonzero(np.diff(level[order], prepend=-1))
        liked = labels[order] == 1
        user = self.user[order]
        out = np.empty(len(self.counts_RU))
        for part in self._blocks(len(scores)):
            weight = self.counts_RU[part][:, user].astype(np.float64)
            plus = np.add.reduceat(weight * liked, bounds, axis=1)
            minus = np.add.reduceat(weight * ~liked, bounds, axis=1)
            before = np.cumsum(minus, axis=1) - minus
            total = plus.sum(1) * minus.sum(1)
            area = (plus * (before + minus / 2)).sum(1)
            out[part] = np.where(total > 0, area / np.maximum(total, 1e-300), np.nan)
        return out

    def uauc(self, scores: FloatArray, labels: LabelArray) -> FloatArray:
        """UAUC of every resample, shape [R]."""
        values, _ = auc_by_user(scores, labels, self.user)
        defined = ~np.isnan(values)
        return self._ratio(np.where(defined, values, 0.0), defined.astype(np.float64))

    def row_mean(self, values: FloatArray) -> FloatArray:
        """Mean of a per-row value (a row's log loss, say) in every resample, shape [R]."""
        sums = np.bincount(self.user, values, minlength=self.n_users).astype(np.float64)
        rows = np.bincount(self.user, minlength=self.n_users)
        return self._ratio(sums, rows.astype(np.float64))

    def _ratio(self, sums_U: FloatArray, counts_U: FloatArray) -> FloatArray:
        """Σ sums / Σ counts over the users of every resample; NaN where nobody counts."""
        both_U2 = np.stack([sums_U, counts_U], axis=1)
        out = np.empty((len(self.counts_RU), 2))
        for part in self._blocks(self.n_users):
            out[part] = self.counts_RU[part].astype(np.float64) @ both_U2
        return np.where(out[:, 1] > 0, out[:, 0] / np.maximum(out[:, 1], 1), np.nan)

    def _blocks(self, width: int) -> Iterator[slice]:
        """Runs of resamples such that one block of ``width`` floats each takes some 4 MB."""
        size = max(1, 2**19 // max(1, width))
        for start in range(0, len(self.counts_RU), size):
            yield slice(start, start + size)


def interval(value: float | None, draws: npt.NDArray[np.floating]) -> Interval:
    """The 2.5th and 97.5th percentile of the resamples in which the metric is defined."""
    good = draws[~np.isnan(draws)]
    if value is None or not len(good):
        return Interval(value, None, None)
    low, high = np.percentile(good, [2.5, 97.5])
    return Interval(value, float(low), float(high))
