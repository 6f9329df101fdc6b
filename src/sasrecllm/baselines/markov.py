"""First-order Markov chain over likes: what is liked next depends on the last liked item alone.

    P(next | last) = (n(last → next) + a · p(next)) / (n(last) + a)

n counts neighbouring likes of one user in the training rows (dislikes between them are skipped: they
are no part of the chain), a is ``prior`` pseudo-transitions, and p(next) = (likes + 1) / (all likes
+ I) is the popularity among the I items.  A last item without a transition, and an empty history,
leave p.
Rendle, Freudenthaler & Schmidt-Thieme (WWW 2010), section 4.1, with the zero counts smoothed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sasrecllm.baselines.pairs import PairTable
from sasrecllm.baselines.train_interactions import TrainRows
from sasrecllm.baselines.trivial import Popularity
from sasrecllm.types import UNKNOWN, FloatArray, Histories, IntArray


@dataclass(frozen=True)
class MarkovChain:
    """ln P(next liked item | last liked item of the history).

    Args:
        prior: a; chosen on the validation split of MovieLens-1M, flat from 50 to 1,000.
    """

    rows: TrainRows
    prior: float = 50.0
    name: str = "Markov chain"

    @cached_property
    def transitions(self) -> PairTable:
        """Counts of (liked, liked next) of all users."""
        users, items = self.rows.likes
        same = users[1:] == users[:-1]
        return PairTable.count(self.rows.n_items, [(items[:-1][same], items[1:][same])])

    @cached_property
    def leaving(self) -> IntArray:
        """Transitions out of each item, and 0 for one outside the catalogue, [I + 1]."""
        table, n = self.transitions, self.rows.n_items
        return np.bincount(table.first, table.counts, minlength=n + 1).astype(np.int64)

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C]; an item never liked has the popularity of no like."""
        last = last_liked(histories)[:, None]
        inside = (last >= 0) & (last < self.rows.n_items)
        leaving = self.leaving[np.where(inside, last, self.rows.n_items)]
        likes = Popularity(self.rows.means).score(histories, candidates)
        popularity = (likes + 1.0) / (self.rows.means.likes.sum() + max(1, self.rows.n_items))
        counted = self.transitions.of(last, candidates)
        return np.asarray(np.log((counted + self.prior * popularity) / (leaving + self.prior)))

    def scores(self, histories: Histories) -> FloatArray:
        """Scores of all items, [B, I]: popularity, and what was counted after the last like."""
        n, table = self.rows.n_items, self.transitions
        popularity = (self.rows.means.likes + 1.0) / (self.rows.means.likes.sum() + max(1, n))
        last = last_liked(histories)
        inside = (last >= 0) & (last < n)
        leaving = self.leaving[np.where(inside, last, n)]
        out = np.tile(self.prior * popularity, (len(histories), 1))
        begin, end = np.searchsorted(table.keys, np.stack([last, last + 1]) * n)
        for row in np.flatnonzero(inside):
            found = slice(begin[row], end[row])
            out[row, table.keys[found] % n] += table.counts[found]
        return np.asarray(np.log(out / (leaving + self.prior)[:, None]))


def last_liked(histories: Histories) -> IntArray:
    """The newest liked item of each history, [B]; UNKNOWN where there is none."""
    liked = histories.liked()
    ends = liked.offsets[1:]
    items = np.append(liked.items, UNKNOWN)
    return np.where(ends > liked.offsets[:-1], items[ends - 1], UNKNOWN)
