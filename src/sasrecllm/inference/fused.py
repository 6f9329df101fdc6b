"""Lists in the order of the list fusion: what people will take next.

*Will they take it* orders a list, and *would they like it* is the probability that each line shows: two
questions, two answers.  The fusion scores the whole catalogue, so that its best items are exact.  The
run's own score is asked about no more items than a list shows, or about the best of the fusion where it
earned a weight among its channels.

Legend: B histories, I items of the catalogue, C candidates, K length of a list, M items looked at.
"""

from __future__ import annotations

import numpy as np

from sasrecllm.fusion.list_fusion import ListFusion
from sasrecllm.fusion.new_items_in_lists import explored
from sasrecllm.inference.diverse import Likeness
from sasrecllm.inference.rerank import Ordered, TwoStage, dense_ranks, over_catalogue
from sasrecllm.inference.retrieve import Channel, best_of
from sasrecllm.types import UNKNOWN, BoolArray, FloatArray, Histories, IntArray, Scorer

REACH = 50
"""Places of the fusion's order among which a new item may be brought forward."""


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

    @property
    def reranked(self) -> int:
        """Items of a list whose order depends on the run's own score; 0 where that has no weight."""
        return 0 if self.fusion.rerank is None else self.fusion.rerank.asked

    @property
    def prompts(self) -> int:
        """See :class:`TwoStage`."""
        return self.fusion.rerank_prompts

    def scores(self, histories: Histories) -> FloatArray:
        """What lists are ordered by before the best are looked at again, of all items, [B, I]."""
        return self.fusion.scores(histories)

    def _order(
        self, part: Histories, free_BI: BoolArray, most: int, boost_I: FloatArray | None, rerank: bool
    ) -> Ordered:
        if not rerank:
            return super()._order(part, free_BI, most, boost_I, rerank)
        fused_BI = self.scores(part)
        if boost_I is not None:
            fused_BI = fused_BI + boost_I
        items, worth, own = self._as_served(part, fused_BI, free_BI, most)
        items, worth, own = items[:, :most], worth[:, :most], own[:, :most]
        ranks = places_in(items, self.channels[0].best(part, free_BI, max(most, self.count)))
        return Ordered(items, worth, ranks, own)

    def _places(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """The fusion's order, with that of the best as they are served in front of it."""
        free_BI, column_BI = over_catalogue(candidates, self.n_items)
        fused_BI = self.scores(histories)
        empty = candidates == UNKNOWN
        asked_BC = np.take_along_axis(fused_BI, np.where(empty, 0, candidates), axis=1)
        out_BC = dense_ranks(np.where(empty, -np.inf, asked_BC))
        first = best_of(fused_BI, free_BI, np.arange(self.n_items), self._looked_at(0))
        items_BM, *_ = self._as_served(histories, fused_BI, free_BI, 0)
        moved = (items_BM != first).any(1)  # others keep their ties
        for row in np.flatnonzero(moved):
            listed = items_BM[row][items_BM[row] != UNKNOWN]
            places = candidates.shape[1] + np.arange(len(listed), 0, -1)
            out_BC[row, column_BI[row, listed]] = places
        return out_BC

    def _looked_at(self, k: int) -> int:
        exploring = REACH if self.fusion.explore and self.fusion.new is not None else 0
        return max(k, self.reranked, exploring)

    def _as_served(
        self, part: Histories, fused_BI: FloatArray, free_BI: BoolArray, k: int
    ) -> tuple[IntArray, FloatArray, FloatArray]:
        """The items in the order in which they are served, what the order is by, falling, and the run's
        own score, NaN if unasked."""
        everything = np.arange(self.n_items)
        items_BM = best_of(fused_BI, free_BI, everything, self._looked_at(k))
        own_BM = np.full(items_BM.shape, np.nan)
        empty_BM = items_BM == UNKNOWN
        worth_BM = np.take_along_axis(fused_BI, np.where(empty_BM, 0, items_BM), axis=1)
        worth_BM = np.where(empty_BM, -np.inf, worth_BM)
        if self.reranked and self.fusion.rerank is not None:
            top_BM = items_BM[:, : self.reranked]
            own_BM[:, : self.reranked] = own = self._scored(part, top_BM)
            worth_BM[:, : self.reranked] += self.fusion.rerank.weight / self.fusion.rerank.scale * own
            order = np.argsort(-worth_BM[:, : self.reranked], axis=1, kind="stable")
            for array in (items_BM, own_BM):
                array[:, : self.reranked] = np.take_along_axis(array[:, : self.reranked], order, axis=1)
        if self.fusion.explore and self.fusion.new is not None:
            order = explored(items_BM, self.fusion.new.known_I, self.fusion.explore, REACH)
            items_BM, own_BM = (np.take_along_axis(a, order, axis=1) for a in (items_BM, own_BM))
        # A place has its own worth, whoever was brought to it: what was looked at again stays in front.
        return items_BM, -np.sort(-worth_BM, axis=1), own_BM


def places_in(items_BK: IntArray, order_BC: IntArray) -> IntArray:
    """Place of each item in its row of ``order_BC`` from 1 on, 0 where it is not there, [B, K]."""
    out = np.zeros(items_BK.shape, dtype=np.int64)
    for row, (items, order) in enumerate(zip(items_BK, order_BC, strict=True)):
        place = {int(item): number for number, item in enumerate(order, 1) if item != UNKNOWN}
        out[row] = [place.get(int(item), 0) for item in items]
    return out
