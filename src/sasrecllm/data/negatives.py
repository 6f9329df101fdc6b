"""Items that may be drawn beside a relevant one: evenly, without rejection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sasrecllm.types import IntArray


@dataclass(frozen=True)
class Unmet:
    """Which items of a pool each owner may be given: those that are not on the owner's list.

    An owner is a user, or a question that has a list of its own.

    Args:
        pool: sorted item indices that may be drawn.
        met: sorted pairs (owner, place in the pool) that may not, as owner · (len(pool) + 1) + place.
        first: of each owner, and the number of pairs at the end, where its pairs begin.
    """

    pool: IntArray
    met: IntArray
    first: IntArray

    @classmethod
    def of(cls, owners: IntArray, items: IntArray, pool: IntArray, count: int) -> Unmet:
        """From the lists of ``count`` owners: ``items`` [N] and the owner of each."""
        width = len(pool) + 1
        inside = np.isin(items, pool)
        met = np.unique(owners[inside] * width + np.searchsorted(pool, items[inside]))
        return cls(pool, met, np.searchsorted(met, np.arange(count + 1) * width))

    @property
    def free(self) -> IntArray:
        """How many items each owner leaves to draw from."""
        return np.asarray(len(self.pool) - np.diff(self.first))

    def draw(self, asked: IntArray, count: int, rng: np.random.Generator) -> IntArray:
        """``count`` different items for each of the owners ``asked`` [B], [B, count].

        Each of them leaves ``count`` items or more.
        """
        width = len(self.pool) + 1
        picks = _distinct(self.free[asked], count, rng)
        # The r-th free place is r plus the number of met places before it.  Met place j of an owner
        # has (place - j) free ones before it, which never decreases: one sorted search for all.
        owner = self.met // width
        gaps = owner * width + (self.met % width) - (np.arange(len(self.met)) - self.first[owner])
        before = np.searchsorted(gaps, asked[:, None] * width + picks, side="right")
        drawn: IntArray = self.pool[picks + before - self.first[asked][:, None]]
        return drawn


def _distinct(limits: IntArray, count: int, rng: np.random.Generator) -> IntArray:
    """``count`` different numbers below ``limits`` [B] each, evenly drawn, shape [B, count]."""
    picks = np.empty((len(limits), 0), dtype=np.int64)
    for drawn in range(count):
        fresh = rng.integers(0, limits - drawn)
        # The fresh number counts only places that are not taken; step over those that are.
        for taken in np.sort(picks, axis=1).T:
            fresh = fresh + (fresh >= taken)
        picks = np.concatenate([picks, fresh[:, None]], axis=1)
    return picks
