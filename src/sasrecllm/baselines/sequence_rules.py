"""Rules of what is liked soon after what: a Markov chain with a longer memory on both sides.

    rule(a → b) = w(a → b) / (w(a → ·)^(1 − β) · w(· → b)^β + shrink)

w(a → b) sums 1/d over all places in the training rows at which one user likes b as the d-th like
after a, d at most ``reach``.  A candidate's score is the sum of the rules from the likes of the
history, each half as strong after every ``half_life`` newer likes.  β = 0 is the share of what follows
a, which favours what is popular; β = ½ is the cosine, in which the popular is no likelier to follow.
Sequential rules with linear decay: Ludewig & Jannach, "Evaluation of session-based recommendation
algorithms" (UMUAI 2018), section 3.1.2.

Legend: B histories, I items.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sasrecllm.baselines.catalogue import CatalogueScorer
from sasrecllm.baselines.pairs import Neighbours, PairTable, fading
from sasrecllm.types import FloatArray, Histories, IntArray


@dataclass(frozen=True)
class SequenceRules(CatalogueScorer):
    """Sum of the rules from the latest likes to each item.

    Args:
        reach: likes that a rule spans at most.
        half_life: of a like of the history, in newer likes.
        shrink: pseudo-weight that draws rules towards 0 where few users carry them.
        cosine: β, 0 to 1.
    """

    reach: int = 10
    half_life: float = 3.0
    shrink: float = 20.0
    cosine: float = 0.0
    name: str = "sequence rules"

    @cached_property
    def rules(self) -> Neighbours:
        """From every item to what is liked after it."""
        n = self.rows.n_items
        table = PairTable.summed(n, self._followers())
        leaving = np.bincount(table.first, table.counts, minlength=n)
        entering = np.bincount(table.second, table.counts, minlength=n)
        size = leaving[table.first] ** (1 - self.cosine) * entering[table.second] ** self.cosine
        return Neighbours.of(table.first, table.second, table.counts / (size + self.shrink), n)

    def scores(self, histories: Histories) -> FloatArray:
        """Scores of all items, [B, I]; 0 where nothing is liked yet."""
        liked = histories.liked()
        return self.rules.summed(liked, fading(liked, self.half_life))

    def _followers(self) -> Iterator[tuple[IntArray, IntArray, float]]:
        users, items = self.rows.likes
        for distance in range(1, self.reach + 1):
            same = users[distance:] == users[:-distance]
            yield items[:-distance][same], items[distance:][same], 1.0 / distance
