"""Scorers of two lines of arithmetic.  They beat most published tables, so every table of ours
starts with them; a claim counts only against them.

All means are smoothed by ``prior`` pseudo-rows of the mean train label m:
mean = (Σ labels + prior·m) / (n + prior).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sasrecllm.types import FloatArray, Histories, IntArray, LabelArray


@dataclass(frozen=True)
class TrainMeans:
    """Smoothed means of the train labels; what every scorer below is made of."""

    mean: float
    items: FloatArray  # [n_items] smoothed mean label
    users: FloatArray  # [n_users] smoothed mean label
    likes: FloatArray  # [n_items] liked rows
    prior: float = 5.0

    @classmethod
    def fit(
        cls,
        users: IntArray,
        items: IntArray,
        labels: LabelArray,
        *,
        n_users: int,
        n_items: int,
        prior: float = 5.0,
    ) -> TrainMeans:
        """Count the train rows; arrays of one length, indices into the catalogue."""
        mean = float(labels.mean()) if len(labels) else 0.5
        item_mean = _smoothed(items, labels, n_items, mean, prior)
        user_mean = _smoothed(users, labels, n_users, mean, prior)
        likes = np.bincount(items, labels, minlength=n_items).astype(np.float64)
        return cls(mean, item_mean, user_mean, likes, prior)

    def item(self, items: IntArray) -> FloatArray:
        """Mean of each item, any shape; m for one outside the table."""
        return _lookup(self.items, items, self.mean)

    def user(self, users: IntArray) -> FloatArray:
        """Mean of each user; m for one outside the table."""
        return _lookup(self.users, users, self.mean)

    def running(self, histories: Histories) -> FloatArray:
        """Mean of each user's rows strictly earlier than the question, of any split, shape [B]."""
        earlier = histories.strictly_earlier()
        return _smoothed(earlier.owners, earlier.labels, len(earlier), self.mean, self.prior)


@dataclass(frozen=True)
class ItemMean:
    """The item's mean train label."""

    means: TrainMeans
    name: str = "item mean"

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C]."""
        return self.means.item(candidates)


@dataclass(frozen=True)
class TwoMeans:
    """The item's mean plus the user's mean train label."""

    means: TrainMeans
    name: str = "item mean + user mean"

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C]."""
        return self.means.item(candidates) + self.means.user(histories.users)[:, None]


@dataclass(frozen=True)
class RunningMean:
    """The user's mean label so far, the same for every candidate."""

    means: TrainMeans
    name: str = "running mean"

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C]."""
        return np.repeat(self.means.running(histories)[:, None], candidates.shape[1], axis=1)


@dataclass(frozen=True)
class ItemMeanPlusRunningMean:
    """The item's mean plus the user's mean label so far."""

    means: TrainMeans
    name: str = "item mean + running mean"

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C]."""
        return self.means.item(candidates) + self.means.running(histories)[:, None]


@dataclass(frozen=True)
class Popularity:
    """How many train rows like the item."""

    means: TrainMeans
    name: str = "popularity"
    is_plain: ClassVar[bool] = True

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C]; 0 for an item outside the table."""
        return _lookup(self.means.likes, candidates, 0.0)

    def scores(self, histories: Histories) -> FloatArray:
        """Scores of all items, the same for everybody, [B, I]."""
        return np.tile(self.means.likes, (len(histories), 1))


def _smoothed(index: IntArray, labels: LabelArray, n: int, mean: float, prior: float) -> FloatArray:
    count = np.bincount(index, minlength=n)
    total = np.bincount(index, labels, minlength=n)
    return np.asarray((total + prior * mean) / (count + prior), dtype=np.float64)


def _lookup(table: FloatArray, index: IntArray, default: float) -> FloatArray:
    inside = (index >= 0) & (index < len(table))
    # One more entry at the end, so that every index from outside has a place, an empty table too.
    return np.append(table, default)[np.where(inside, index, len(table))]
