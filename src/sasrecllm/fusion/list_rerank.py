"""A score that costs too much for a whole catalogue, as one more channel of the list fusion.

    Σ_c w_c · score_c(i) / scale_c + w · score(i) / scale,  for the ``best`` items of the sum before

with w ≥ 0 and a ridge, fitted on a sample of validation likes among those very items: weights fitted
on easy others say nothing about the best hundred.  What it adds must pay for itself: w is 0, and the
score is never asked for an order, unless out-of-fold NDCG@10 on that sample surely rises (by more
than 1.96 standard errors over users).

Legend: B histories, I items, Q likes of the sample, M best items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sasrecllm.fusion.contests import (
    FOLDS,
    Contests,
    blocks,
    contests_of,
    fit_beside,
    folds_of,
    is_above,
    joined,
    mark_best,
    scale_of,
)
from sasrecllm.machine.progress import Tell
from sasrecllm.types import BoolArray, FloatArray, Free, Histories, IntArray, Scorer, asks_by_prompts

RIDGE = 10.0
"""Penalty on the squared weight, in likes."""
TOGETHER = 64
"""Lists that a score is asked about at once."""


@dataclass(frozen=True)
class Rerank:
    """The weight of a score beside the fusion of the others.

    Args:
        row: whose score it is, as the results table names it.
        best: items of each list that are asked about.
        asks_language_model: whether the score does.
        likes: of the sample.
        without: out-of-fold NDCG@10 of the sample without the score, and ``with_it``.
    """

    row: str
    weight: float
    scale: float
    best: int
    likes: int
    without: float
    with_it: float
    asks_language_model: bool = False

    @classmethod
    def fit(
        cls, scorer: Scorer, contests: Contests, scale: float, users: IntArray, *, best: int, seed: int
    ) -> Rerank:
        """Weigh the ``scorer`` in what :func:`reranked_contests` found; see the module.

        Args:
            users: [Q] whose like each is.
        """
        without = contests.gains(np.array([1.0, 0.0]))
        with_it, fold = without.copy(), folds_of(users, seed)
        for number in range(FOLDS):
            held, rest = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
            weight = fit_beside(contests.take(rest), RIDGE, least=0.0)
            with_it[held] = contests.take(held).gains(np.array([1.0, weight]))
        earned = is_above(with_it, without, users)
        weight = fit_beside(contests, RIDGE, least=0.0) if earned else 0.0
        means = float(without.mean()), float(with_it.mean())
        likes, asks = len(contests.liked), asks_by_prompts(scorer)
        return cls(scorer.name, weight, scale, best, likes, *means, asks)

    @property
    def asked(self) -> int:
        """Items of a list that are asked about: none where the score has no weight."""
        return self.best if self.weight > 0 else 0

    @property
    def prompts(self) -> int:
        """Items of a list that a language model is asked about for its order."""
        return self.asked if self.asks_language_model else 0

    @property
    def said(self) -> str:
        """What it is worth, in words."""
        judged = f"NDCG@10 on {self.likes:,} validation likes {self.without:.4f} without"
        if self.weight:
            best = f"P(like) of {self.row} orders the best {self.best} too"
            return f"{best} ({judged}, {self.with_it:.4f} with)"
        return f"P(like) of {self.row} adds nothing to the order and is not asked for it ({judged})"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Rerank:
        """Of plain values.

        Raises:
            TypeError: a value is missing.
            ValueError: a number is not what it should be.
        """
        found = cls(**values)
        numbers = np.array([found.weight, found.scale, found.best], dtype=np.float64)
        if not np.isfinite(numbers).all() or found.weight < 0 or found.scale <= 0 or found.best < 1:
            raise ValueError("weight, scale or items of the reranker are not what they should be")
        return found


def reranked_contests(
    scorer: Scorer,
    fused: Callable[[Histories], FloatArray],
    histories: Histories,
    targets: IntArray,
    *,
    free: Free,
    n_items: int,
    best: int,
    progress: Tell,
) -> tuple[Contests, float]:
    """The ``best`` items by ``fused`` [B, I], with both scores, and the scale of the second.

    Args:
        progress: called with (done, all) as it goes on; of a language model after every like.
    """
    parts, spread, largest, done = [], 0.0, 0.0, 0
    most = 1 if asks_by_prompts(scorer) else TOGETHER
    for rows in blocks(len(targets), n_items):
        part = histories.take(rows)
        free_BI, fused_BI = free(part), fused(part)
        among_BI = np.zeros_like(free_BI)
        mark_best(among_BI, fused_BI, free_BI, best)
        own_BI = np.zeros(among_BI.shape)
        for lists in _of_one_length(among_BI, most):
            items = np.nonzero(among_BI[lists])[1].reshape(len(lists), -1)
            own = scorer.score(part.take(lists), items)
            own_BI[lists[:, None], items] = own
            spread += float(own.std(axis=1).sum())
            largest = max(largest, float(np.abs(own).max()))
            done += len(lists)
            progress(done, len(targets))
        parts.append(contests_of(among_BI, [fused_BI, own_BI], targets[rows]))
    scale = float(scale_of(np.array(spread / max(1, len(targets))), np.array(largest)))
    found = joined(parts)
    return Contests(found.features / np.array([1.0, scale]), found.offsets, found.liked), scale


def _of_one_length(among_BI: BoolArray, most: int) -> Iterator[IntArray]:
    """Rows with as many items as each other, at most ``most`` at once; none without an item."""
    counts = among_BI.sum(1)
    for count in np.unique(counts[counts > 0]):
        rows = np.flatnonzero(counts == count)
        for start in range(0, len(rows), most):
            yield rows[start : start + most]
