"""What a user likes, as a Bayesian regression of his own: a level, and a preference for what items are.

The labels of one user are modelled as

    label = quality(item) + level + drift(t) + preference · features(item) + noise

with a Gaussian prior on each term, so that the posterior mean given his rows so far has a closed form
(Gaussian-process regression with the sum of the terms' kernels: Rasmussen & Williams 2006, eq. 2.25).
``quality`` is shared by all users: a ridge regression of the training labels on user, item
and features, so that an item rated by generous users is not taken for a good one and a rare or new
item borrows from what it resembles.  How often an item was rated is one of its features: what the
crowd chose to see it also likes better.

The terms as scorers: :mod:`sasrecllm.baselines.user_regression_terms`.

Legend: B questions, L history rows, C candidates, D features, I items, J new items, N rows,
U different items of the histories.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from sasrecllm.baselines.features import popularity
from sasrecllm.types import UNKNOWN, FloatArray, Histories, IntArray, LabelArray

CHUNK = 64  # questions solved at once: 64 * 200 * 200 doubles are 20 MB


@dataclass(frozen=True)
class RegressionPrior:
    """Prior variances in squared label units; chosen on the validation split of MovieLens-1M.

    Args:
        level: of a user's constant level.
        drift: of the part of the level that fades over ``memory`` rows.
        preference: of each feature group.
        noise: of one label.
        last: newest rows that are read.
    """

    level: float = 0.03
    drift: float = 0.02
    memory: float = 10.0
    preference: float = 0.006
    noise: float = 0.18
    last: int = 200


@dataclass(frozen=True)
class UserRegression:
    """The fitted regression: what all users share, and the prior of what is each user's own.

    Args:
        mean: mean training label.
        quality: [I] how much better than ``mean`` an item is.
        features: [I, D] scaled by the square root of the prior variance, so that a dot product of
            two items is the prior covariance of a user's preference for them.
        slope: [D] quality that comes with each (unscaled) feature.
        unrated: [P] the popularity, last of the features, of an item that nobody could rate yet.
        new_quality, new_features: [J] and [J, D] of items behind the table; kept apart, so that a
            view with a few new items copies nothing.
    """

    mean: float
    quality: FloatArray
    features: FloatArray
    prior: RegressionPrior
    slope: FloatArray
    unrated: FloatArray = field(default_factory=lambda: np.zeros(0))
    new_quality: FloatArray = field(default_factory=lambda: np.zeros(0))
    new_features: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))

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
        prior: RegressionPrior | None = None,
    ) -> UserRegression:
        """Fit the shared part on the training rows; arrays of one length N, ``groups`` by item."""
        prior = prior or RegressionPrior()
        popular, unrated = popularity(np.bincount(items, minlength=n_items))
        features = _joined([*groups, popular], n_items)
        mean = float(labels.mean()) if len(labels) else 0.5
        quality, slope = shared_quality(
            users, items, labels.astype(np.float64) - mean, features, n_users=n_users, n_items=n_items
        )
        return cls(mean, quality, features * np.sqrt(prior.preference), prior, slope, unrated)

    def extended(self, groups: Sequence[FloatArray], count: int) -> UserRegression:
        """With ``count`` items that nobody has rated behind the others, ``groups`` [count, D_g] each.

        They are worth what their features are worth: the same as had they stood in the catalogue
        without a training row.
        """
        features = _joined([*groups, np.tile(self.unrated, (count, 1))], count)
        old = self.new_features if len(self.new_features) else np.zeros((0, features.shape[1]))
        return replace(
            self,
            new_quality=np.append(self.new_quality, features @ self.slope),
            new_features=np.concatenate([old, features * np.sqrt(self.prior.preference)]),
        )

    def posterior(self, histories: Histories, candidates: IntArray) -> tuple[FloatArray, FloatArray]:
        """Posterior means of level plus drift [B] and of the preference for ``candidates`` [B, C].

        Reads the rows strictly earlier than the question; without any, both are 0, the prior mean.
        """
        level, preference = np.zeros(len(histories)), np.zeros(candidates.shape)
        for rows, level_R, wish_RD in self._wishes(histories):
            level[rows] = level_R
            preference[rows] = (self.features_of(candidates[rows]) @ wish_RD[:, :, None])[:, :, 0]
        return level, preference

    def for_all(self, histories: Histories) -> FloatArray:
        """Posterior mean of the preference for every item, new ones last, [B, I]."""
        features_ID = np.concatenate(
            [self.features, self.new_features.reshape(-1, self.features.shape[1])]
        )
        preference = np.zeros((len(histories), len(features_ID)))
        for rows, _, wish_RD in self._wishes(histories):
            preference[rows] = wish_RD @ features_ID.T
        return preference

    def _wishes(self, histories: Histories) -> Iterator[tuple[IntArray, FloatArray, FloatArray]]:
        """Chunks of rows R with their levels [R] and what they wish of each feature [R, D]."""
        earlier = histories.strictly_earlier().last(self.prior.last)
        # Neighbours in length share a chunk; a row's answer does not depend on its chunk.
        order = np.argsort(np.diff(earlier.offsets), kind="stable")
        for start in range(0, len(order), CHUNK):
            rows = order[start : start + CHUNK]
            yield rows, *self._solve(earlier.take(rows))

    def _solve(self, h: Histories) -> tuple[FloatArray, FloatArray]:
        p = self.prior
        lengths = np.diff(h.offsets)
        items_U, at_N = np.unique(h.items, return_inverse=True)
        at_BL = h.padded(at_N, len(items_U)).astype(np.int64)
        features_UD = self.features_of(np.append(items_U, UNKNOWN))  # the last: of an empty place
        real_BL = np.arange(at_BL.shape[1]) < lengths[:, None]
        residual = h.labels - self.mean - self.quality_of(h.items)
        residual_BL = h.padded(residual, 0).astype(np.float64)
        age_BL = (lengths[:, None] - np.arange(at_BL.shape[1])).clip(min=0)
        apart_BLL = np.abs(age_BL[:, :, None] - age_BL[:, None, :])
        both_BLL = real_BL[:, :, None] & real_BL[:, None, :]
        fading = p.level + p.drift * np.exp(-np.arange(at_BL.shape[1] + 1) / p.memory)
        kernel_BLL = _products(features_UD, at_BL) + both_BLL * fading[apart_BLL]
        kernel_BLL += np.eye(kernel_BLL.shape[1]) * p.noise
        alpha_BL = np.linalg.solve(kernel_BLL, residual_BL[:, :, None])[:, :, 0]
        level = (alpha_BL * real_BL * fading[age_BL]).sum(1)
        cells_BL = at_BL + len(features_UD) * np.arange(len(at_BL))[:, None]
        wish_B = np.bincount(cells_BL.ravel(), alpha_BL.ravel(), len(at_BL) * len(features_UD))
        return level, wish_B.reshape(len(at_BL), -1) @ features_UD

    def quality_of(self, items: IntArray) -> FloatArray:
        """Quality of items, any shape; 0 for one that is in neither table."""
        found = _rows(self.quality[:, None], items)
        if len(self.new_quality):
            found = found + _rows(self.new_quality[:, None], items - len(self.quality))
        return np.asarray(found[..., 0])

    def features_of(self, items: IntArray) -> FloatArray:
        """Features of items [..., D]; zeros for one that is in neither table."""
        found = _rows(self.features, items)
        if len(self.new_features):
            found = found + _rows(self.new_features, items - len(self.features))
        return found


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
) -> tuple[FloatArray, FloatArray]:
    """Item part [I] of the ridge regression targets ~ user + item + features, by backfitting.

    The ridges count as that many pseudo-rows of 0.

    Returns:
        ``features @ slope + item`` [I], and the slope [D]: all that an item without rows has.
    """
    user: FloatArray = np.zeros(n_users)
    item: FloatArray = np.zeros(n_items)
    slope: FloatArray = np.zeros(features.shape[1])
    user_count = np.bincount(users, minlength=n_users) + user_ridge
    item_count = np.bincount(items, minlength=n_items) + item_ridge
    shown = np.bincount(items, minlength=n_items)
    gram = (features * shown[:, None]).T @ features + feature_ridge * np.eye(features.shape[1])
    solved = np.linalg.inv(gram)  # once for all sweeps: what it costs is most of a sweep
    for _ in range(sweeps):
        rest = targets - user[users] - item[items]
        if len(slope):
            summed = features.T @ np.bincount(items, rest, n_items)
            slope = np.asarray(solved @ summed, dtype=np.float64)
        common = features @ slope
        rest = targets - common[items] - item[items]
        user = np.asarray(np.bincount(users, rest, n_users) / user_count, dtype=np.float64)
        rest = targets - common[items] - user[users]
        item = np.asarray(np.bincount(items, rest, n_items) / item_count, dtype=np.float64)
    return np.asarray(features @ slope + item), slope


def _products(features_UD: FloatArray, at_BL: IntArray) -> FloatArray:
    """Dot products of the features of every two places of a history, [B, L, L].

    Histories of one user, or of popular items, share most of theirs: those are multiplied once.
    """
    if len(features_UD) ** 2 <= at_BL.size * at_BL.shape[1]:
        shared_UU = features_UD @ features_UD.T
        return np.asarray(shared_UU[at_BL[:, :, None], at_BL[:, None, :]])
    features_BLD = features_UD[at_BL]
    return np.asarray(features_BLD @ features_BLD.transpose(0, 2, 1))


def _joined(groups: Sequence[FloatArray], count: int) -> FloatArray:
    """The groups side by side, [count, D]; D may be 0."""
    joined: FloatArray = np.concatenate([np.zeros((count, 0)), *groups], axis=1)
    return joined


def _rows(table_ID: FloatArray, items: IntArray) -> FloatArray:
    """Rows of the table at items of any shape, [..., D]; zeros for one outside."""
    inside = (items >= 0) & (items < len(table_ID))
    if not len(table_ID):
        return np.zeros((*items.shape, table_ID.shape[1]))
    return np.asarray(table_ID[np.where(inside, items, 0)] * inside[..., None])
