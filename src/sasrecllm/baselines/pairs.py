"""A sparse table of numbers for pairs of items: sorted keys, so that a look-up is a binary search.

Legend: B histories, I items, N likes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sasrecllm.types import FloatArray, Histories, IntArray


@dataclass(frozen=True)
class PairTable:
    """What each ordered pair of items was counted for; 0 for a pair that never was.

    Args:
        keys: ``first * n_items + second``, ascending, each once.
        counts: of each key.
    """

    n_items: int
    keys: IntArray
    counts: FloatArray

    @classmethod
    def count(cls, n_items: int, chunks: Iterable[tuple[IntArray, IntArray]]) -> PairTable:
        """Count the pairs (first, second) of all chunks; memory grows with the distinct pairs."""
        return cls.summed(n_items, ((first, second, 1.0) for first, second in chunks))

    @classmethod
    def summed(cls, n_items: int, chunks: Iterable[tuple[IntArray, IntArray, float]]) -> PairTable:
        """Sum the worth of the pairs of all chunks, each of one worth."""
        keys, counts = np.zeros(0, dtype=np.int64), np.zeros(0)
        for first, second, worth in chunks:
            some, n = np.unique(first * n_items + second, return_counts=True)
            keys, place = np.unique(np.concatenate([keys, some]), return_inverse=True)
            both = np.concatenate([counts, worth * n])
            counts = np.bincount(place, both, minlength=len(keys)).astype(np.float64)
        return cls(n_items, keys, counts)

    @property
    def first(self) -> IntArray:
        """First item of every key."""
        return self.keys // max(1, self.n_items)

    @property
    def second(self) -> IntArray:
        """Second item of every key."""
        return self.keys % max(1, self.n_items)

    def of(self, first: IntArray, second: IntArray) -> FloatArray:
        """Counts of the pairs, of the shape that both broadcast to; 0 outside the catalogue."""
        inside = (first >= 0) & (first < self.n_items) & (second >= 0) & (second < self.n_items)
        keys = np.where(inside, first * self.n_items + second, -1)
        place = np.searchsorted(self.keys, keys)
        # One more entry at the end, so that every place exists, that of an empty table too.
        found = np.append(self.keys, -2)[place] == keys
        return np.where(found, np.append(self.counts, 0.0)[place], 0.0)


@dataclass(frozen=True)
class Neighbours:
    """What each item says about others: row i is ``items[offsets[i]:offsets[i + 1]]``.

    Args:
        values: one for each of ``items``.
        width: one more than the largest that ``items`` may hold.
    """

    offsets: IntArray  # [I + 1]
    items: IntArray
    values: FloatArray
    width: int

    @classmethod
    def of(
        cls, whose: IntArray, items: IntArray, values: FloatArray, n_rows: int, width: int | None = None
    ) -> Neighbours:
        """From entries of one length in any order; ``width`` is ``n_rows`` unless told."""
        order = np.argsort(whose, kind="stable")
        counts = np.bincount(whose, minlength=n_rows)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(offsets, items[order], values[order], n_rows if width is None else width)

    def summed(self, liked: Histories, worth: FloatArray) -> FloatArray:
        """Sum of ``worth`` [N] times the row of each entry of ``liked``, [B, width].

        Entries outside the catalogue say nothing.  Added up in the order of the history, so that no
        bit depends on the batch.
        """
        out = np.zeros((len(liked), self.width))
        for row in range(len(liked)):
            entries = slice(liked.offsets[row], liked.offsets[row + 1])
            inside = (liked.items[entries] >= 0) & (liked.items[entries] < len(self.offsets) - 1)
            out[row] = self.spread(liked.items[entries][inside], worth[entries][inside])
        return out

    def spread(self, rows: IntArray, worth: FloatArray) -> FloatArray:
        """Sum of ``worth`` times each of ``rows``, both of one length, [width]."""
        starts, counts = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        steps = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        at = np.repeat(starts, counts) + steps
        weights = self.values[at] * np.repeat(worth, counts)
        return np.bincount(self.items[at], weights, minlength=self.width).astype(np.float64)


def fading(liked: Histories, half_life: float) -> FloatArray:
    """Worth of every like of a history, [N]: 1 for the newest, half after every ``half_life`` likes."""
    ends = np.repeat(liked.offsets[1:], np.diff(liked.offsets))
    age = ends - 1 - np.arange(len(liked.items))
    return np.asarray(2.0 ** (-age / half_life), dtype=np.float64)
