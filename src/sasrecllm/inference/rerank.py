"""The second stage, the reranker: candidates in the order of the system's own score.

What ``recommend``, batch jobs and the server answer with, and what the ranking tables judge.

Legend: B histories, I items of the catalogue, C candidates, K length of a list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from sasrecllm.data.candidates import free_items
from sasrecllm.errors import CheckpointError, ConfigError
from sasrecllm.evaluation.metrics import refuse_nan
from sasrecllm.inference.diverse import Likeness, mixed
from sasrecllm.inference.retrieve import Among, Channel, retrieve
from sasrecllm.inference.wishes import Wanted
from sasrecllm.types import UNKNOWN, BoolArray, FloatArray, Histories, IntArray, Scorer, asks_by_prompts

AT_ONCE = 2**24
"""Histories times items of the catalogue that are looked at together: bounds the memory."""


class Lists(NamedTuple):
    """The best items of each history, UNKNOWN and −inf where fewer than K may be recommended."""

    items: IntArray  # [B, K]
    scores: FloatArray  # [B, K] of the second stage
    ranks: IntArray  # [B, K] place in the first channel's order from 1; 0 where another one named it


class Ordered(NamedTuple):
    """Candidates of each history with what orders them, UNKNOWN and −inf behind the last, [B, C]."""

    items: IntArray
    worth: FloatArray
    ranks: IntArray  # place in the first channel's order from 1, or 0
    scores: FloatArray  # of the second stage, NaN where it was not asked yet

    def at(self, places: IntArray) -> Ordered:
        """Those at ``places`` [B, K]."""
        taken: Any = [np.take_along_axis(values, places, axis=1) for values in self]
        return Ordered(*taken)

    def sorted(self, most: int) -> Ordered:
        """The ``most`` of highest worth, falling; equal ones stay in their order."""
        return self.at(np.argsort(-self.worth, axis=1, kind="stable")[:, :most])


class TwoStage:
    """Channels that name candidates, and a scorer that orders them; a Scorer itself.

    Args:
        channels: the first stage; the ranks of a list are those of the first one.
        scorer: the second stage.  Equal scores stand in the order of the catalogue.
        n_items: size of the catalogue.
        count: items that each channel names; at least as many as a list is long.
        behind: orders what no channel named, behind all that one did; only :meth:`score` asks it.
        likeness: of items to each other, for lists that shall be mixed.
        log_odds: what one unit of log-odds is in the scores that lists are ordered by.
    """

    def __init__(
        self,
        channels: Sequence[Channel],
        scorer: Scorer,
        n_items: int,
        *,
        count: int = 100,
        behind: Scorer | None = None,
        likeness: Likeness | None = None,
        log_odds: float = 1.0,
    ) -> None:
        self.channels, self.scorer, self.n_items = channels, scorer, n_items
        self.count, self.behind, self.name = count, behind, scorer.name
        self.likeness, self.log_odds = likeness, log_odds

    @property
    def reranked(self) -> int:
        """Items of a list, at most, of each channel, whose order depends on the scorer."""
        return self.count

    @property
    def prompts(self) -> int:
        """Items of a list, at most, that a language model is asked about; 0 where it is not asked."""
        return len(self.channels) * self.count if asks_by_prompts(self.scorer) else 0

    def lists(
        self, histories: Histories, k: int, wanted: Wanted | None = None, *, rerank: bool = True
    ) -> Lists:
        """The ``k`` best items of each of B histories; no row depends on another.

        Args:
            wanted: what may be listed, and what changes the order.
            rerank: False leaves the first channel's own order, of what it names.

        Raises:
            ConfigError: without ``rerank`` a boost or a diversity has no score to work on.
        """
        wanted = wanted or Wanted()
        refuse_without_rerank(wanted, rerank)
        allowed_I = wanted.allowed_I
        if allowed_I is None:
            allowed_I = np.ones(self.n_items, dtype=bool)
        parts = [self._empty(0, k)]
        for rows in self._blocks(len(histories)):
            part = histories.take(rows)
            free_BI = free_items(part, allowed_I, seen=wanted.seen)
            parts.append(self._best(part, free_BI, k, wanted, rerank))
        return Lists(*map(np.concatenate, zip(*parts, strict=True)))

    def _best(self, part: Histories, free_BI: BoolArray, k: int, wanted: Wanted, rerank: bool) -> Lists:
        """The ``k`` best of the free items of each history of a block."""
        mixes = wanted.diversity > 0 and self.likeness is not None
        found = self._order(part, free_BI, max(k, self.count) if mixes else k, wanted.boost_I, rerank)
        if mixes and self.likeness is not None:
            found = found.at(mixed(found.items, found.worth, k, wanted.diversity, self.likeness))
        scores, missing = found.scores, np.isnan(found.scores)
        if missing.any():
            scores = np.where(missing, self._scored(part, found.items), scores)
        best = self._empty(len(part), k)
        for whole, given in zip(best, (found.items, scores, found.ranks), strict=True):
            whole[:, : given.shape[1]] = given
        return best

    def _order(
        self, part: Histories, free_BI: BoolArray, most: int, boost_I: FloatArray | None, rerank: bool
    ) -> Ordered:
        """The ``most`` best candidates of each history of a block."""
        if not rerank:  # the first channel's own order: the only one that is asked, for no more
            found = retrieve(self.channels[:1], part, free_BI, most)
            scores = self._scored(part, found.items)
            worth = np.where(found.items == UNKNOWN, -np.inf, -found.ranks[0].astype(np.float64))
            return Ordered(found.items, worth, found.ranks[0], scores).sorted(most)
        channels = self.channels
        if boost_I is not None:  # what is boosted may come from further behind
            channels = [*channels, *(Among(c, boost_I > 0) for c in channels if (boost_I > 0).any())]
        found = retrieve(channels, part, free_BI, max(most, self.count))
        scores = worth = self._scored(part, found.items)
        if boost_I is not None:
            worth = scores + self.log_odds * boost_I[found.items]
        return Ordered(found.items, worth, found.ranks[0], scores).sorted(most)

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Where each of ``candidates`` [B, C] would stand if they were all that may be recommended.

        The numbers order the candidates of a row, equals among them included, and mean nothing
        beside another row.  UNKNOWN stands behind every item.
        """
        out_BC = np.zeros(candidates.shape)
        for rows in self._blocks(len(histories)):
            out_BC[rows] = self._places(histories.take(rows), candidates[rows])
        return out_BC

    def _places(self, histories: Histories, candidates: IntArray) -> FloatArray:
        free_BI, column_BI = over_catalogue(candidates, self.n_items)
        out_BC = np.zeros(candidates.shape)
        if self.behind is not None:
            out_BC = self.behind.score(histories, candidates)
        out_BC = dense_ranks(np.where(candidates == UNKNOWN, -np.inf, out_BC))
        found = retrieve(self.channels, histories, free_BI, self.count)
        second = dense_ranks(self._scored(histories, found.items)) + candidates.shape[1]
        named = np.nonzero(found.items != UNKNOWN)
        out_BC[named[0], column_BI[named[0], found.items[named]]] = second[named]
        return out_BC

    def _scored(self, histories: Histories, items: IntArray) -> FloatArray:
        """Scores of candidates [B, C], −inf where there is none; a history without any is not asked."""
        empty, scores = items == UNKNOWN, np.full(items.shape, -np.inf)
        rows = np.flatnonzero(~empty[:, 0])
        if len(rows):
            asked = np.where(empty[rows], items[rows, :1], items[rows])
            got = self.scorer.score(histories.take(rows), asked)
            refuse_nan(got.ravel())
            scores[rows] = np.where(empty[rows], -np.inf, got)
        return scores

    def _blocks(self, count: int) -> Iterator[IntArray]:
        size = max(1, AT_ONCE // self.n_items)
        for start in range(0, count, size):
            yield np.arange(start, min(start + size, count))

    @staticmethod
    def _empty(rows: int, k: int) -> Lists:
        unknown, no_rank = np.full((rows, k), UNKNOWN), np.zeros((rows, k), dtype=np.int64)
        return Lists(unknown, np.full((rows, k), -np.inf), no_rank)


def refuse_without_rerank(wanted: Wanted, rerank: bool) -> None:
    """Refuse wishes that change an order where it shall be the encoder's own.

    Raises:
        ConfigError: a boost or a diversity, and no ``rerank``.
    """
    if wanted.reorders and not rerank:
        raise ConfigError(
            "boost and diversity change the order of a list, and without rerank (--no-rerank) it is the"
            " encoder's own",
            "leave one of the two out",
        )


def over_catalogue(candidates: IntArray, n_items: int) -> tuple[BoolArray, IntArray]:
    """Whether each item is among ``candidates`` [B, C], and in which column, both [B, I]."""
    rows, columns = np.nonzero(candidates != UNKNOWN)
    free_BI = np.zeros((len(candidates), n_items), dtype=bool)
    free_BI[rows, candidates[rows, columns]] = True
    column_BI = np.zeros(free_BI.shape, dtype=np.int64)
    column_BI[rows, candidates[rows, columns]] = columns
    return free_BI, column_BI


def finite(name: str, scores: FloatArray) -> FloatArray:
    """The scores of a loaded system.

    Raises:
        CheckpointError: one is not finite.
    """
    if not np.isfinite(scores).all():
        raise CheckpointError(
            f"{name} gives a score that is not finite: its weights or numbers are damaged",
            "restore the run from a copy, or train it again",
        )
    return scores


def dense_ranks(scores_BC: FloatArray) -> FloatArray:
    """Place of each score in its row from 1 on, ascending; equal scores have the same one."""
    order = np.argsort(scores_BC, axis=1, kind="stable")
    rising = np.take_along_axis(scores_BC, order, axis=1)
    steps = np.ones(rising.shape)
    steps[:, 1:] = rising[:, 1:] != rising[:, :-1]
    out_BC = np.empty(rising.shape)
    np.put_along_axis(out_BC, order, np.cumsum(steps, axis=1), axis=1)
    return out_BC
