"""Lists in the order of the list fusion: what people will take next.

*Will they take it* orders a list, and *would they like it* is the probability that each line shows: two
questions, two answers.  The fusion scores the whole catalogue, so that its best items are exact, and
the run's own score is asked about no more items than a list shows.

Legend: B histories, I items of the catalogue, C candidates, K length of a list.
"""

from __future__ import annotations

import numpy as np

from sasrecllm.baselines.list_fusion import ListFusion
from sasrecllm.inference.diverse import Likeness
from sasrecllm.inference.rerank import Ordered, TwoStage, dense_ranks
from sasrecllm.inference.retrieve import Channel, best_of
from sasrecllm.types import UNKNOWN, BoolArray, FloatArray, Histories, IntArray, Scorer


class FusedLists(TwoStage):
    """The best items by the fusion, each with the score of the run's last row; a Scorer itself.

    Args:
        fusion: orders; ``n_items`` of it are the catalogue.
        encoder: names the places of what is listed in its own order, and lists without ``rerank``.
        scorer: says P(like) of what is listed.
        count: places of the encoder's order that are looked at, and candidates of a mixed list.
        likeness: of items to each other, for lists that shall be mixed.
    """

    def __init__(
        self,
        fusion: ListFusion,
        encoder: Channel,
        scorer: Scorer,
        *,
        count: int = 100,
        likeness: Likeness | None = None,
    ) -> None:
        super().__init__([encoder], scorer, fusion.n_items, count=count, likeness=likeness)
        self.fusion, self.name = fusion, fusion.name

    def scores(self, histories: Histories) -> FloatArray:
        """What lists are ordered by, of all items, [B, I]."""
        return self.fusion.scores(histories)

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Places of ``candidates`` [B, C] in that order; UNKNOWN stands behind every item."""
        found = self.fusion.score(histories, candidates)
        return dense_ranks(np.where(candidates == UNKNOWN, -np.inf, found))

    def _order(
        self, part: Histories, free_BI: BoolArray, most: int, boost_I: FloatArray | None, rerank: bool
    ) -> Ordered:
        if not rerank:
            return super()._order(part, free_BI, most, boost_I, rerank)
        worth_BI = self.scores(part)
        if boost_I is not None:
            worth_BI = worth_BI + boost_I
        items = best_of(worth_BI, free_BI, np.arange(self.n_items), most)
        worth = np.where(items == UNKNOWN, -np.inf, np.take_along_axis(worth_BI, items, axis=1))
        ranks = places_in(items, self.channels[0].best(part, free_BI, max(most, self.count)))
        return Ordered(items, worth, ranks, None)


def places_in(items_BK: IntArray, order_BC: IntArray) -> IntArray:
    """Place of each item in its row of ``order_BC`` from 1 on, 0 where it is not there, [B, K]."""
    out = np.zeros(items_BK.shape, dtype=np.int64)
    for row, (items, order) in enumerate(zip(items_BK, order_BC, strict=True)):
        place = {int(item): number for number, item in enumerate(order, 1) if item != UNKNOWN}
        out[row] = [place.get(int(item), 0) for item in items]
    return out
