"""What every baseline is made of: the training rows and their means, nothing later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sasrecllm.baselines.trivial import TrainMeans
from sasrecllm.baselines.user_regression import UserRegression
from sasrecllm.types import FloatArray, IntArray, LabelArray


@dataclass(frozen=True)
class TrainRows:
    """The training rows [N]; those of one user stand in his time order.

    Args:
        users, items: indices into the catalogue.
        labels: 1 liked, 0 not.
        seed: of whatever a baseline draws.
        features: makes the feature groups [n_items, F] of the items, for the user regression.
        times: of the rows, on one clock for all users; None where the data has none.
    """

    users: IntArray
    items: IntArray
    labels: LabelArray
    n_users: int
    n_items: int
    seed: int = 0
    features: Callable[[], Sequence[FloatArray]] = tuple
    times: IntArray | None = None

    @cached_property
    def means(self) -> TrainMeans:
        """Smoothed means of the labels."""
        return TrainMeans.fit(
            self.users, self.items, self.labels, n_users=self.n_users, n_items=self.n_items
        )

    @cached_property
    def user_regression(self) -> UserRegression:
        """The user regression, its shared part fitted on these rows."""
        return UserRegression.fit(
            self.users,
            self.items,
            self.labels,
            list(self.features()),
            n_users=self.n_users,
            n_items=self.n_items,
        )

    @cached_property
    def likes(self) -> tuple[IntArray, IntArray]:
        """Users and items of the liked rows, user by user, each user's in his time order."""
        return self.users[self._liked], self.items[self._liked]

    @cached_property
    def like_times(self) -> IntArray | None:
        """Times of the liked rows, in the order of ``likes``; None where the data has none."""
        return None if self.times is None else self.times[self._liked]

    @cached_property
    def _liked(self) -> IntArray:
        liked = np.flatnonzero(self.labels == 1)
        return liked[np.argsort(self.users[liked], kind="stable")]
