"""What a user likes, as a Bayesian regression of his own: a level, and a taste for what items are.

The labels of one user are modelled as

    label = quality(item) + level + drift(t) + taste · features(item) + noise

with a Gaussian prior on each term, so that the posterior mean given his rows so far has a closed form
(Gaussian-process regression with the sum of the terms' kernels: Rasmussen & Williams 2006, eq. 2.25).
``quality`` is shared by all users: a ridge regression of the training labels on user, item
and features, so that an item rated by generous users is not taken for a good one and a rare or new
item borrows from what it resembles.

Level and drift move all candidates of one request together: pooled AUC sees them, the order within a
request does not.  Taste and quality make the order.  They are kept apart as scorers, so that a fusion
can weigh each (docs/protocol.md).

Legend: B questions, L history rows, C candidates, D features, G feature groups, I items, N rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sasrecllm.types import BoolArray, FloatArray, Histories, IntArray, LabelArray

YEAR = re.compile(r"\((1[89]\d\d|20\d\d)\)")
CHUNK = 64  # questions solved at once: 64 * 200 * 200 doubles are 20 MB


@dataclass(frozen=True)
class TastePrior:
    """Prior variances in squared label units; chosen on the validation split of MovieLens-1M.

    Args:
        level: of a user's constant level.
        drift: of the part of the level that fades over ``memory`` rows.
        taste: of each feature group.
        noise: of one label.
        last: newest rows that are read.
    """

    level: float = 0.03
    drift: float = 0.02
    memory: float = 10.0
    taste: float = 0.006
    noise: float = 0.18
    last: int = 200


def item_features(
    titles: Sequence[str], attributes: Mapping[str, Sequence[str | None]], *, words: int = 256
) -> list[FloatArray]:
    """Feature groups of the items, each [I, D_g] with rows of length one (or zero).

    One group per attribute column (values separated by ``|``), one of the release year where most
    titles carry one, "(1994)" say, their product, and one of the ``words`` most frequent title words.
    """
    groups = [_bag([(v or "").split("|") for v in column], 500) for column in attributes.values()]
    found = [YEAR.search(t) for t in titles]
    if titles and sum(f is not None for f in found) > len(titles) / 2:
        years = _bumps(np.array([float(f.group(1)) if f else np.nan for f in found]))
        groups += [_crossed(g, years) for g in groups[:1]] + [years]
    tokens = [re.findall(r"[^\W\d_]{3,}", t.lower()) for t in titles]
    if words:
        groups.append(_bag(tokens, words))
    return [g for g in groups if g.shape[1]]


def _bag(values: Sequence[Sequence[str]], most: int) -> FloatArray:
    """Multi-hot of the ``most`` frequent values that at least two items share."""
    sets = [sorted({v for v in row if v}) for row in values]
    counts: dict[str, int] = {}
    for row in sets:
        for value in row:
            counts[value] = counts.get(value, 0) + 1
    kept = sorted((v for v, n in counts.items() if n > 1), key=lambda v: (-counts[v], v))[:most]
    column = {v: c for c, v in enumerate(kept)}
    table = np.zeros((len(sets), len(kept)))
    for item, row in enumerate(sets):
        table[item, [column[v] for v in row if v in column]] = 1.0
    return _unit(table)


def _bumps(years: FloatArray, width: float = 8.0) -> FloatArray:
    """Years as overlapping bumps, so that neighbouring years resemble each other."""
    centres = np.arange(np.nanmin(years), np.nanmax(years) + width, width / 2)
    bumps = np.exp(-(((years[:, None] - centres) / width) ** 2))
    return _unit(np.nan_to_num(bumps))


def _crossed(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.asarray((a[:, :, None] * b[:, None, :]).reshape(len(a), -1))


def _unit(table: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    return np.asarray(table / np.where(lengths > 0, lengths, 1.0))


@dataclass(frozen=True)
class Taste:
    """The fitted regression: what all users share, and the prior of what is each user's own.

    Args:
        mean: mean training label.
        quality: [I] how much better than ``mean`` an item is.
        features: [I, D] scaled by the square root of the prior variance, so that a dot product of
            two items is the prior covariance of a user's taste for them.
    """

    mean: float
    quality: FloatArray
    features: FloatArray
    prior: TastePrior

    @classmethod
    def fit(
        cls,
        users: IntArray,
        items: IntArray,
        labels: LabelArray,
        groups: Sequence[FloatArray],
        *,
        n_users: int,
        n_items: int,
        prior: TastePrior | None = None,
    ) -> Taste:
        """Fit the shared part on the training rows; arrays of one length N, ``groups`` by item."""
        prior = prior or TastePrior()
        features: FloatArray = np.concatenate([np.zeros((n_items, 0)), *groups], axis=1)
        mean = float(labels.mean()) if len(labels) else 0.5
        quality = shared_quality(
            users, items, labels.astype(np.float64) - mean, features, n_users=n_users, n_items=n_items
        )
        return cls(mean, quality, features * np.sqrt(prior.taste), prior)

    def posterior(self, histories: Histories, candidates: IntArray) -> tuple[FloatArray, FloatArray]:
        """Posterior means of level plus drift [B] and of the taste for ``candidates`` [B, C].

        Reads the rows strictly earlier than the question; without any, both are 0, the prior mean.
        """
        earlier = histories.keep(histories.times < histories.asked_at[histories.owners])
        earlier = earlier.last(self.prior.last)
        level, taste = np.zeros(len(histories)), np.zeros(candidates.shape)
        # Neighbours in length share a chunk; a row's answer does not depend on its chunk.
        order = np.argsort(np.diff(earlier.offsets), kind="stable")
        for start in range(0, len(order), CHUNK):
            rows = order[start : start + CHUNK]
            level[rows], taste[rows] = self._solve(earlier.take(rows), candidates[rows])
        return level, taste

    def _solve(self, h: Histories, candidates_BC: IntArray) -> tuple[FloatArray, FloatArray]:
        p = self.prior
        lengths = np.diff(h.offsets)
        items_BL = h.padded(h.items, -1).astype(np.int64)
        real_BL = np.arange(items_BL.shape[1]) < lengths[:, None]
        residual = h.labels - self.mean - self.quality_of(h.items)
        residual_BL = h.padded(residual, 0).astype(np.float64)
        features_BLD = self.features_of(items_BL) * real_BL[:, :, None]
        age_BL = (lengths[:, None] - np.arange(items_BL.shape[1])).clip(min=0)
        apart_BLL = np.abs(age_BL[:, :, None] - age_BL[:, None, :])
        both_BLL = real_BL[:, :, None] & real_BL[:, None, :]
        kernel_BLL = features_BLD @ features_BLD.transpose(0, 2, 1)
        kernel_BLL += both_BLL * (p.level + p.drift * np.exp(-apart_BLL / p.memory))
        kernel_BLL += np.eye(kernel_BLL.shape[1]) * p.noise
        alpha_BL = np.linalg.solve(kernel_BLL, residual_BL[:, :, None])[:, :, 0]
        level = (alpha_BL * real_BL * (p.level + p.drift * np.exp(-age_BL / p.memory))).sum(1)
        wish_BD = (alpha_BL[:, None, :] @ features_BLD)[:, 0]
        taste_BC = (self.features_of(candidates_BC) @ wish_BD[:, :, None])[:, :, 0]
        return level, taste_BC

    def quality_of(self, items: IntArray) -> FloatArray:
        """Quality of items, any shape; 0 for one outside the table."""
        return np.append(self.quality, 0.0)[_place(items, len(self.quality))]

    def features_of(self, items: IntArray) -> FloatArray:
        """Features of items [..., D]; zeros for one outside the table."""
        inside = _place(items, len(self.features)) < len(self.features)
        if not len(self.features):
            return np.zeros((*items.shape, self.features.shape[1]))
        return np.asarray(self.features[np.where(inside, items, 0)] * inside[..., None])


def shared_quality(
    users: IntArray,
    items: IntArray,
    targets: FloatArray,
    features: FloatArray,
    *,
    n_users: int,
    n_items: int,
    user_ridge: float = 5.0,
    item_ridge: float = 6.0,
    feature_ridge: float = 10.0,
    sweeps: int = 30,
) -> FloatArray:
    """Item part [I] of the ridge regression targets ~ user + item + features, by backfitting.

    The ridges count as that many pseudo-rows of 0.
    """
    user: FloatArray = np.zeros(n_users)
    item: FloatArray = np.zeros(n_items)
    slope: FloatArray = np.zeros(features.shape[1])
    user_count = np.bincount(users, minlength=n_users) + user_ridge
    item_count = np.bincount(items, minlength=n_items) + item_ridge
    shown = np.bincount(items, minlength=n_items)
    gram = (features * shown[:, None]).T @ features + feature_ridge * np.eye(features.shape[1])
    for _ in range(sweeps):
        rest = targets - user[users] - item[items]
        if len(slope):
            summed = features.T @ np.bincount(items, rest, n_items)
            slope = np.asarray(np.linalg.solve(gram, summed), dtype=np.float64)
        common = features @ slope
        rest = targets - common[items] - item[items]
        user = np.asarray(np.bincount(users, rest, n_users) / user_count, dtype=np.float64)
        rest = targets - common[items] - user[users]
        item = np.asarray(np.bincount(items, rest, n_items) / item_count, dtype=np.float64)
    return np.asarray(features @ slope + item)


def doubled(histories: Histories) -> Histories:
    """Of n strictly earlier rows the oldest 2^k, k as large as fits.

    A level read from them is renewed when a history has doubled and stands still between, so it tells
    users apart without chasing the last labels of one.
    """
    earlier = histories.keep(histories.times < histories.asked_at[histories.owners])
    lengths = np.diff(earlier.offsets)
    kept = np.where(lengths > 0, 2 ** np.floor(np.log2(np.maximum(lengths, 1))), 0)
    position = np.arange(len(earlier.items)) - np.repeat(earlier.offsets[:-1], lengths)
    inside: BoolArray = position < np.repeat(kept, lengths)
    return earlier.keep(inside)


@dataclass(frozen=True)
class ItemQuality:
    """The shared quality alone."""

    taste: Taste
    name: str = "item quality"

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C]."""
        return self.taste.quality_of(candidates)


@dataclass(frozen=True)
class UserTaste:
    """Posterior mean of a user's taste for each candidate."""

    taste: Taste
    name: str = "user taste"

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C]."""
        return self.taste.posterior(histories, candidates)[1]


@dataclass(frozen=True)
class UserLevel:
    """Posterior mean of a user's level and drift, the same for every candidate."""

    taste: Taste
    name: str = "user level"

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C]."""
        level = self.taste.posterior(histories, candidates[:, :1])[0]
        return np.repeat(level[:, None], candidates.shape[1], axis=1)


@dataclass(frozen=True)
class SteadyLevel:
    """The level as of the last time that the user's history had doubled (:func:`doubled`)."""

    taste: Taste
    name: str = "steady level"

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C]."""
        return UserLevel(self.taste).score(doubled(histories), candidates)


@dataclass(frozen=True)
class UserRegression:
    """The whole model, mean + quality + level + taste: an estimate of P(like), no deep learning."""

    taste: Taste
    name: str = "user regression"

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C]."""
        level, taste = self.taste.posterior(histories, candidates)
        return self.taste.mean + self.taste.quality_of(candidates) + level[:, None] + taste


TASTES: dict[str, Callable[[Taste], ItemQuality | UserTaste | UserLevel | SteadyLevel | UserRegression]]
TASTES = {
    "item quality": ItemQuality,
    "user taste": UserTaste,
    "user level": UserLevel,
    "steady level": SteadyLevel,
    "user regression": UserRegression,
}
"""One row per scorer of this file."""


def _place(index: IntArray, size: int) -> IntArray:
    return np.where((index >= 0) & (index < size), index, size)
