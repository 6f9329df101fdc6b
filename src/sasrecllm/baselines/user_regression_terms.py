"""The terms of the user regression (``user_regression.py``) as scorers, and their sum.

Level and drift move all candidates of one request together: pooled AUC sees them, the order within a
request does not.  Preference and quality make the order.  They are kept apart, so that a fusion can
weigh each (docs/protocol.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from sasrecllm.baselines.user_regression import UserRegression
from sasrecllm.types import BoolArray, FloatArray, Histories, IntArray


def doubled(histories: Histories) -> Histories:
    """Of n strictly earlier rows the oldest 2^k, k as large as fits.

    A level read from them is renewed when a history has doubled and stands still between, so it tells
    users apart without chasing the last labels of one.
    """
    earlier = histories.strictly_earlier()
    lengths = np.diff(earlier.offsets)
    kept = np.where(lengths > 0, 2 ** np.floor(np.log2(np.maximum(lengths, 1))), 0)
    position = np.arange(len(earlier.items)) - np.repeat(earlier.offsets[:-1], lengths)
    inside: BoolArray = position < np.repeat(kept, lengths)
    return earlier.keep(inside)


@dataclass(frozen=True)
class RegressionTerm:
    """What the scorers below share."""

    regression: UserRegression
    reads_words: ClassVar[bool] = False
    """Whether it knows an item without training rows by its words and attributes."""
    shown: ClassVar[str] = "asked"
    """Which tables have it (:class:`sasrecllm.baselines.table.Baseline`)."""

    def with_new_items(self, groups: Sequence[FloatArray], count: int) -> Self:
        """The same scorer over a catalogue with new items at its end; see `UserRegression.extended`."""
        return replace(self, regression=self.regression.extended(groups, count))


@dataclass(frozen=True)
class ItemQuality(RegressionTerm):
    """The shared quality alone."""

    name: str = "item quality"
    reads_words: ClassVar[bool] = True

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C]."""
        return self.regression.quality_of(candidates)


@dataclass(frozen=True)
class UserPreference(RegressionTerm):
    """Posterior mean of a user's preference for each candidate."""

    name: str = "user preference"
    reads_words: ClassVar[bool] = True

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C]."""
        return self.regression.posterior(histories, candidates)[1]

    def scores(self, histories: Histories) -> FloatArray:
        """Scores of all items, [B, I]."""
        return self.regression.for_all(histories)


@dataclass(frozen=True)
class UserLevel(RegressionTerm):
    """Posterior mean of a user's level and drift, the same for every candidate."""

    name: str = "user level"

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C]."""
        level = self.regression.posterior(histories, candidates[:, :1])[0]
        return np.repeat(level[:, None], candidates.shape[1], axis=1)


@dataclass(frozen=True)
class SteadyLevel(RegressionTerm):
    """The level as of the last time that the user's history had doubled (:func:`doubled`)."""

    name: str = "steady level"

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C]."""
        return UserLevel(self.regression).score(doubled(histories), candidates)


@dataclass(frozen=True)
class WholeRegression(RegressionTerm):
    """The whole model, mean + quality + level + preference: an estimate of P(like)."""

    name: str = "user regression"
    reads_words: ClassVar[bool] = True
    shown: ClassVar[str] = "always"

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C]."""
        level, preference = self.regression.posterior(histories, candidates)
        return (
            self.regression.mean + self.regression.quality_of(candidates) + level[:, None] + preference
        )


REGRESSION_TERMS: dict[
    str,
    Callable[
        [UserRegression], ItemQuality | UserPreference | UserLevel | SteadyLevel | WholeRegression
    ],
]
REGRESSION_TERMS = {
    "item quality": ItemQuality,
    "user preference": UserPreference,
    "user level": UserLevel,
    "steady level": SteadyLevel,
    "user regression": WholeRegression,
}
"""One row per scorer of this file."""
