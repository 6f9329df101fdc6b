"""Item-based neighbours: a candidate is as good as it is near to what the user has liked.

    sim(i, j) = |U_i ∩ U_j| / (√(|U_i| · |U_j|) + shrink)

U_i are the users who like i in the training rows: the cosine of the two columns of likes, drawn
towards 0 where few users carry it.  A candidate's score is the sum of its similarities to the n liked
items of the history, over √n: the sum lets a long history shout, the mean forgets how much is known.
Item-based top-N of Deshpande & Karypis (TOIS 2004, section 4) without a cut to nearest neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sasrecllm.baselines.pairs import PairTable
from sasrecllm.baselines.train_interactions import TrainRows
from sasrecllm.types import FloatArray, Histories, IntArray

PAIRS_AT_ONCE = 2**22
"""Pairs per chunk of counting and scoring: some hundred MB of temporaries at most."""


@dataclass(frozen=True)
class ItemKNN:
    """Similarity of the candidate to all liked items of the history.

    Args:
        shrink: pseudo-users; chosen on the validation split of MovieLens-1M, flat from 10 to 100.
    """

    rows: TrainRows
    shrink: float = 20.0
    name: str = "ItemKNN"

    @cached_property
    def together(self) -> PairTable:
        """How many users like both, for i < j."""
        return PairTable.count(self.rows.n_items, _pairs_of_likes(self.rows))

    @cached_property
    def likers(self) -> FloatArray:
        """Users who like each item, and 0 for one outside the catalogue, [I + 1]."""
        _, items = _distinct_likes(self.rows)
        return np.bincount(items, minlength=self.rows.n_items + 1).astype(np.float64)

    def similarity(self, first: IntArray, second: IntArray) -> FloatArray:
        """sim of the pairs, of the shape that both broadcast to.

        0 for an item that no training row likes, and for an item with itself.
        """
        both = self.together.of(np.minimum(first, second), np.maximum(first, second))
        size = np.sqrt(self._likers_of(first) * self._likers_of(second))
        return both / np.maximum(size + self.shrink, 1e-12)

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C]; 0 where nothing is liked yet or nobody likes the item."""
        liked = histories.liked()
        owners, out = liked.owners, np.zeros(candidates.shape)
        columns = max(1, PAIRS_AT_ONCE // max(1, len(owners)))
        for start in range(0, candidates.shape[1], columns):
            part = candidates[:, start : start + columns]
            near = self.similarity(part[owners], liked.items[:, None])
            # Added up in the order of the history, so that no bit depends on the batch.
            cells = owners[:, None] * part.shape[1] + np.arange(part.shape[1])
            summed = np.bincount(cells.ravel(), near.ravel(), minlength=part.size)
            out[:, start : start + columns] = summed.reshape(part.shape)
        return out / np.sqrt(np.maximum(np.diff(liked.offsets), 1))[:, None]

    def _likers_of(self, items: IntArray) -> FloatArray:
        inside = (items >= 0) & (items < self.rows.n_items)
        return self.likers[np.where(inside, items, self.rows.n_items)]


def _distinct_likes(rows: TrainRows) -> tuple[IntArray, IntArray]:
    """Users and items of the likes, each pair once, by user and then by item."""
    users, items = rows.likes
    keys = np.unique(users * max(1, rows.n_items) + items)
    return keys // max(1, rows.n_items), keys % max(1, rows.n_items)


def _pairs_of_likes(rows: TrainRows) -> Iterator[tuple[IntArray, IntArray]]:
    """Items (i, j), i < j, that one user likes both, for all users, in chunks."""
    users, items = _distinct_likes(rows)
    place = np.arange(len(users))
    later = np.searchsorted(users, users, side="right") - place - 1  # partners that follow
    ends = np.cumsum(later)
    start = 0
    while start < len(users):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + PAIRS_AT_ONCE, side="right")))
        n = later[start:stop]
        first = np.repeat(place[start:stop], n)
        step = np.arange(len(first)) - np.repeat(np.cumsum(n) - n, n)
        yield items[first], items[first + 1 + step]
        start = stop
