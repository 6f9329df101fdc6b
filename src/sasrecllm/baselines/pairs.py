"""A sparse table of numbers for pairs of items: sorted keys, so that a look-up is a binary search."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sasrecllm.types import FloatArray, IntArray


@dataclass(frozen=True)
class PairTable:
    """How often each ordered pair of items was counted; 0 for a pair that never was.

    Args:
        keys: ``first * n_items + second``, ascending, each once.
        counts: of each key.
    """

    n_items: int
    keys: IntArray
    counts: IntArray

    @classmethod
    def count(cls, n_items: int, chunks: Iterable[tuple[IntArray, IntArray]]) -> PairTable:
        """Count the pairs (first, second) of all chunks; memory grows with the distinct pairs."""
        keys = counts = np.zeros(0, dtype=np.int64)
        for first, second in chunks:
            some, n = np.unique(first * n_items + second, return_counts=True)
            keys, place = np.unique(np.concatenate([keys, some]), return_inverse=True)
            total = np.bincount(place, np.concatenate([counts, n]), minlength=len(keys))
            counts = total.astype(np.int64)  # exact: far below 2**53
        return cls(n_items, keys, counts)

    def of(self, first: IntArray, second: IntArray) -> FloatArray:
        """Counts of the pairs, of the shape that both broadcast to; 0 outside the catalogue."""
        inside = (first >= 0) & (first < self.n_items) & (second >= 0) & (second < self.n_items)
        keys = np.where(inside, first * self.n_items + second, -1)
        place = np.searchsorted(self.keys, keys)
        # One more entry at the end, so that every place exists, that of an empty table too.
        found = np.append(self.keys, -2)[place] == keys
        return np.where(found, np.append(self.counts, 0)[place], 0).astype(np.float64)
