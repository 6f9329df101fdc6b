"""Baselines that answer for the whole catalogue at once: what fills lists.

A :class:`~sasrecllm.types.Scorer` is asked about given candidates.  Whoever fills a list asks about
every item, for many users, and a model of sums over the history does that far faster by item than by
pair.  Such a model says how once (:meth:`CatalogueScorer.scores`); its answer about given candidates
is read out of that.

Legend: B histories, C candidates, I items of the catalogue, N likes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from sasrecllm.baselines.train_interactions import TrainRows
from sasrecllm.types import FloatArray, Histories, IntArray

CELLS_AT_ONCE = 2**23
"""Scores per block where only some are wanted: 64 MB of temporaries."""

PAIRS_AT_ONCE = 2**22
"""Pairs per chunk of :meth:`Likes.pairs`: some hundred MB of temporaries at most."""


@runtime_checkable
class ListChannel(Protocol):
    """What can fill a list of its own: one score for every item of the catalogue."""

    @property
    def name(self) -> str:
        """Of its row in a table."""
        ...

    def scores(self, histories: Histories) -> FloatArray:
        """Scores of all items, higher is better, [B, I]; a row depends on its own history alone."""
        ...


@dataclass(frozen=True)
class CatalogueScorer(ABC):
    """A baseline of the liked training rows that scores all items, and so any candidates."""

    rows: TrainRows

    @abstractmethod
    def scores(self, histories: Histories) -> FloatArray:
        """Scores of all items, [B, I]; an item that no training row likes has 0."""

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C]; 0 for an item outside the catalogue."""
        return read_out(self.scores, histories, candidates, self.rows.n_items)


def read_out(
    scores: Callable[[Histories], FloatArray],
    histories: Histories,
    candidates: IntArray,
    n_items: int,
) -> FloatArray:
    """Scores of ``candidates`` [B, C] out of those of all items; 0 for one outside the catalogue."""
    out = np.zeros(candidates.shape)
    inside = (candidates >= 0) & (candidates < n_items)
    places = np.where(inside, candidates, 0)
    block = max(1, CELLS_AT_ONCE // max(1, n_items))
    for start in range(0, len(histories) if n_items else 0, block):
        part = np.arange(start, min(start + block, len(histories)))
        every = scores(histories.take(part))
        out[part] = np.take_along_axis(every, places[part], axis=1)
    return np.where(inside, out, 0.0)


class Likes(NamedTuple):
    """Who likes what, each pair once, user by user: row u is ``items[offsets[u]:offsets[u + 1]]``."""

    items: IntArray  # [N] ascending within a user
    offsets: IntArray  # [users + 1]

    @property
    def owners(self) -> IntArray:
        """The row of every like, [N]."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def turned(self, n_items: int) -> Likes:
        """The same likes item by item: row i holds the users who like i."""
        order = np.argsort(self.items, kind="stable")
        counts = np.bincount(self.items, minlength=n_items)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Likes(self.owners[order], offsets)

    def pairs(self) -> Iterator[tuple[IntArray, IntArray]]:
        """Items (i, j), i < j, that one user likes both, for all users, in chunks."""
        place = np.arange(len(self.items))
        later = np.repeat(self.offsets[1:], np.diff(self.offsets)) - place - 1  # partners that follow
        ends = np.cumsum(later)
        start = 0
        while start < len(place):
            done = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, done + PAIRS_AT_ONCE, side="right")))
            n = later[start:stop]
            first = np.repeat(place[start:stop], n)
            step = np.arange(len(first)) - np.repeat(np.cumsum(n) - n, n)
            yield self.items[first], self.items[first + 1 + step]
            start = stop


def distinct_likes(owners: IntArray, items: IntArray, n_users: int, n_items: int) -> Likes:
    """The distinct (owner, item) pairs; those with an item outside the catalogue are left out."""
    inside = (items >= 0) & (items < n_items)
    keys = np.unique(owners[inside] * max(1, n_items) + items[inside])
    users = keys // max(1, n_items)
    counts = np.bincount(users, minlength=n_users)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Likes(keys % max(1, n_items), offsets)


def likes_of(rows: TrainRows) -> Likes:
    """The liked training rows."""
    users, items = rows.likes
    return distinct_likes(users, items, rows.n_users, rows.n_items)


def likes_in(histories: Histories, n_items: int) -> Likes:
    """The liked items of each history, whatever their order."""
    liked = histories.liked()
    return distinct_likes(liked.owners, liked.items, len(histories), n_items)
