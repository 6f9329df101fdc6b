"""Popularity with a memory: what is liked now, as of the moment of the question.

    Σ over the training likes of the item strictly earlier than t of 2^(−(t − their time) / half-life)

t is the time of the question, so that a question of the past is answered with what had happened by
then, and one of today with everything.  Without times it is popularity.

Legend: B histories, I items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sasrecllm.baselines.catalogue import CatalogueScorer
from sasrecllm.types import FloatArray, Histories


@dataclass(frozen=True)
class RecentPopularity(CatalogueScorer):
    """Likes of the item before the question, each worth half as much after every half-life.

    Args:
        half_life: as a share of the time that the training likes span.
    """

    half_life: float = 0.05
    name: str = "recent popularity"
    SHORT: ClassVar[float] = 0.005
    """Half-life of ``trending``, for items that are of the day: news, offers."""
    is_plain: ClassVar[bool] = True

    def scores(self, histories: Histories) -> FloatArray:
        """Scores of all items, [B, I]; 0 for an item that nobody has liked yet."""
        _, items = self.rows.likes
        times = self.rows.like_times
        if times is None:
            counts = np.bincount(items, minlength=self.rows.n_items).astype(np.float64)
            return np.tile(counts, (len(histories), 1))
        order = np.argsort(times, kind="stable")
        items, times = items[order], times[order]
        span = float(times[-1] - times[0]) if len(times) else 0.0
        rate = np.log(2.0) / max(self.half_life * span, 1e-9)
        out = np.zeros((len(histories), self.rows.n_items))
        worth, moment, done = np.zeros(self.rows.n_items), 0, 0
        for row in np.argsort(histories.asked_at, kind="stable"):
            now = int(histories.asked_at[row])
            upto = int(np.searchsorted(times, now, side="left"))
            worth = worth * np.exp(-rate * (now - moment)) if done else worth
            if upto > done:
                new = np.exp(-rate * (now - times[done:upto]))
                worth = worth + np.bincount(items[done:upto], new, minlength=self.rows.n_items)
            out[row], moment, done = worth, now, max(done, upto)
        return out
