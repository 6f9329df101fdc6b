"""Lists in the order of the list fusion: what people will take next.

*Will they take it* orders a list, and *would they like it* is the probability that each line shows: two
questions, two answers.  The fusion scores the whole catalogue, so that its best items are exact, and
the run's own score is asked about no more items than a list shows.

Legend: B histories, I items of the catalogue, C candidates, K length of a list.
"""

from __future__ import annotations

import numpy as np

from sasrecllm.baselines.list_fusion import ListFusion
from sasrecllm.inference.rerank import Lists, TwoStage, dense_ranks
from sasrecllm.inference.retrieve import Channel, best_of
from sasrecllm.types import UNKNOWN, BoolArray, FloatArray, Histories, IntArray, Scorer


class FusedLists(TwoStage):
    """The best items by the fusion, each with the score of the run's last row; a Scorer itself.

    Args:
        fusion: orders; ``n_items`` of it are the catalogue.
        encoder: names the places of what is listed in its own order, and lists without ``rerank``.
        scorer: says P(like) of what is listed.
        count: places of the encoder's order that are looked at.
    """

    def __init__(
        self, fusion: ListFusion, encoder: Channel, scorer: Scorer, *, count: int = 100
    ) -> None:
        super().__init__([encoder], scorer, fusion.n_items, count=count)
        self.fusion, self.name = fusion, fusion.name

    def scores(self, histories: Histories) -> FloatArray:
        """What lists are ordered by, of all items, [B, I]."""
        return self.fusion.scores(histories)

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Places of ``candidates`` [B, C] in that order; UNKNOWN stands behind every item."""
        found = self.fusion.score(histories, candidates)
        return dense_ranks(np.where(candidates == UNKNOWN, -np.inf, found))

    def _best(self, part: Histories, free_BI: BoolArray, k: int, rerank: bool) -> Lists:
        if not rerank:
            return super()._best(part, free_BI, k, rerank)
        items_BK = best_of(self.scores(part), free_BI, np.arange(self.n_items), k)
        ranks_BK = places_in(items_BK, self.channels[0].best(part, free_BI, max(k, self.count)))
        best = self._empty(len(part), k)
        for whole, found in zip(best, (items_BK, self._scored(part, items_BK), ranks_BK), strict=True):
            whole[:, : found.shape[1]] = found
        return best


def places_in(items_BK: IntArray, order_BC: IntArray) -> IntArray:
    """Place of each item in its row of ``order_BC`` from 1 on, 0 where it is not there, [B, K]."""
    out = np.zeros(items_BK.shape, dtype=np.int64)
    for row, (items, order) in enumerate(zip(items_BK, order_BC, strict=True)):
        place = {int(item): number for number, item in enumerate(order, 1) if item != UNKNOWN}
        out[row] = [place.get(int(item), 0) for item in items]
    return out
