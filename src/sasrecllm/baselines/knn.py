"""Item-based neighbours: a candidate is as good as it is near to what the user has liked.

    sim(i, j) = |U_i ∩ U_j| / (√(|U_i| · |U_j|) + shrink)

U_i are the users who like i in the training rows: the cosine of the two columns of likes, drawn
towards 0 where few users carry it.  A candidate's score is the sum of its similarities to the n liked
items of the history, over √n: the sum lets a long history shout, the mean forgets how much is known.
Item-based top-N of Deshpande & Karypis (TOIS 2004, section 4) without a cut to nearest neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sasrecllm.baselines.catalogue import likes_of
from sasrecllm.baselines.pairs import Neighbours, PairTable
from sasrecllm.baselines.train_interactions import TrainRows
from sasrecllm.types import FloatArray, Histories, IntArray

PAIRS_AT_ONCE = 2**22
"""Pairs per chunk of scoring: some hundred MB of temporaries at most."""


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
        return PairTable.count(self.rows.n_items, likes_of(self.rows).pairs())

    @cached_property
    def likers(self) -> FloatArray:
        """Users who like each item, and 0 for one outside the catalogue, [I + 1]."""
        items = likes_of(self.rows).items
        return np.bincount(items, minlength=self.rows.n_items + 1).astype(np.float64)

    def similarity(self, first: IntArray, second: IntArray) -> FloatArray:
        """sim of the pairs, of the shape that both broadcast to.

        0 for an item that no training row likes, and for an item with itself.
        """
        both = self.together.of(np.minimum(first, second), np.maximum(first, second))
        return self._likeness(both, first, second)

    def _likeness(self, both: FloatArray, first: IntArray, second: IntArray) -> FloatArray:
        """sim of pairs that so many users like ``both`` of."""
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

    @cached_property
    def neighbours(self) -> Neighbours:
        """Of every item, those whose similarity is above 0."""
        first, second = self.together.first, self.together.second
        near = self._likeness(self.together.counts, first, second)
        whose, which = np.concatenate([first, second]), np.concatenate([second, first])
        return Neighbours.of(whose, which, np.concatenate([near, near]), self.rows.n_items)

    def scores(self, histories: Histories) -> FloatArray:
        """Scores of all items, [B, I]: the neighbours of what is liked, without asking the others."""
        liked = histories.liked()
        out = self.neighbours.summed(liked, np.ones(len(liked.items)))
        return out / np.sqrt(np.maximum(np.diff(liked.offsets), 1))[:, None]

    def _likers_of(self, items: IntArray) -> FloatArray:
        inside = (items >= 0) & (items < self.rows.n_items)
        return self.likers[np.where(inside, items, self.rows.n_items)]
