"""What a list has to choose between, and the weights of a choice.

The like of a question competes with the ``best`` items of every channel and not with the whole
catalogue: that is the choice that a list has to make, and weights fitted on easy others say nothing
about it.  A like that no channel has among its best teaches nothing.

Legend: B histories, I items, C channels, Q validation likes, N competing items of all Q together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sasrecllm.baselines.catalogue import CELLS_AT_ONCE, ListChannel
from sasrecllm.machine.progress import Tell
from sasrecllm.types import BoolArray, FloatArray, Free, Histories, IntArray

PLACES = 10
"""Length of the list whose gain counts."""
FOLDS = 5
SURE = 1.96
"""Standard errors by which a difference is sure."""


@dataclass(frozen=True)
class Contests:
    """Items that compete for Q validation likes: those of like q are offsets[q] to offsets[q + 1].

    Args:
        features: standardised scores of the channels.
        liked: place of the like among the N, -1 where no channel has it among its best.
    """

    features: FloatArray  # [N, C]
    offsets: IntArray  # [Q + 1]
    liked: IntArray  # [Q]

    def take(self, rows: IntArray) -> Contests:
        """The contests of the likes ``rows``."""
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        moved = self.offsets[:-1][rows] - offsets[:-1]
        source = np.repeat(moved, lengths) + np.arange(offsets[-1])
        liked = np.where(self.liked[rows] < 0, -1, self.liked[rows] - moved)
        return Contests(self.features[source], offsets, liked)

    def found(self) -> Contests:
        """Those whose like competes at all."""
        return self.take(np.flatnonzero(self.liked >= 0))

    def gains(self, weights: FloatArray) -> FloatArray:
        """NDCG@10 of every like under these weights, ties counted half, [Q]."""
        scores = self.features @ weights
        owner = np.repeat(np.arange(len(self.liked)), np.diff(self.offsets))
        own = np.where(self.liked >= 0, np.append(scores, 0.0)[self.liked], np.inf)
        ahead = np.bincount(owner[scores > own[owner]], minlength=len(own))
        tied = np.bincount(owner[scores == own[owner]], minlength=len(own))
        rank = 1.0 + ahead + 0.5 * np.maximum(tied - 1, 0)
        in_list = (self.liked >= 0) & (rank <= PLACES)
        return np.where(in_list, 1.0 / np.log2(rank + 1.0), 0.0)


def contests_of(among_BI: BoolArray, scores: Sequence[FloatArray], targets: IntArray) -> Contests:
    """The contests of a block of likes: the marked items, with their values in ``scores`` [B, I]."""
    owner, item = np.nonzero(among_BI)
    liked = np.full(len(targets), -1)
    hit = np.flatnonzero(item == targets[owner])
    liked[owner[hit]] = hit
    offsets = np.concatenate([[0], np.cumsum(among_BI.sum(1))]).astype(np.int64)
    return Contests(np.stack([s[owner, item] for s in scores], axis=1), offsets, liked)


def joined(parts: Sequence[Contests]) -> Contests:
    """The contests of all blocks, in their order."""
    starts = np.cumsum([0, *(len(part.features) for part in parts)])
    moved = [p.offsets[1:] + s for p, s in zip(parts, starts, strict=False)]
    liked = [np.where(p.liked < 0, -1, p.liked + s) for p, s in zip(parts, starts, strict=False)]
    return Contests(
        np.concatenate([part.features for part in parts]),
        np.concatenate([np.zeros(1, dtype=np.int64), *moved]),
        np.concatenate(liked),
    )


def blocks(count: int, cells: int, progress: Tell | None = None) -> Iterator[IntArray]:
    """Places of ``count`` histories, in blocks of bounded memory; ``cells`` are those of a history.

    Args:
        progress: called with (done, all) when a block is done.
    """
    size = max(1, CELLS_AT_ONCE // max(1, cells))
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))
        if progress is not None:
            progress(min(start + size, count), count)


def compete(
    channels: Sequence[ListChannel],
    histories: Histories,
    targets: IntArray,
    *,
    free: Free,
    n_items: int,
    best: int = 50,
    progress: Tell | None = None,
) -> tuple[Contests, FloatArray]:
    """The contests of the likes, and the scale of every channel [C].

    Args:
        free: what may be served, and so competes.
        progress: see :func:`blocks`.
    """
    parts, spread, largest = [], np.zeros(len(channels)), np.zeros(len(channels))
    for rows in blocks(len(targets), n_items * len(channels), progress):
        part = histories.take(rows)
        free_BI = free(part)
        scores = [np.asarray(channel.scores(part), dtype=np.float64) for channel in channels]
        spread += [_deviations(s, free_BI).sum() for s in scores]
        largest = np.maximum(largest, [np.abs(s).max(initial=0.0) for s in scores])
        among_BI = np.zeros_like(free_BI)
        for s in scores:
            mark_best(among_BI, s, free_BI, best)
        parts.append(contests_of(among_BI, scores, targets[rows]))
    scales = scale_of(spread / max(1, len(targets)), largest)
    found = joined(parts)
    return Contests(found.features / scales, found.offsets, found.liked), scales


def scale_of(spread: FloatArray, largest: FloatArray) -> FloatArray:
    """``spread``, or 1 where it is but the rounding of equal scores, whose size is ``largest``."""
    return np.where(spread > 1e-9 * largest, spread, 1.0)


def fit_weights(contests: Contests, ridge: float) -> FloatArray:
    """The weights [C], at least 0, of highest penalised likelihood: projected Newton steps.

    minimises −Σ_q ln P(like q) + ridge/2 · Σ w²
    """
    part = contests.found()
    count = part.features.shape[1]
    weights: FloatArray = np.full(count, 0.05)
    loss, slope, curve = _likelihood(part, weights, ridge)
    for _ in range(100):
        free = (weights > 0) | (slope < 0)
        if not free.any() or np.abs(slope[free]).max() < 1e-6 * max(1, len(part.liked)):
            break
        step = np.zeros(count)
        step[free] = -np.linalg.solve(curve[np.ix_(free, free)], slope[free])
        for halving in range(30):
            tried = np.maximum(weights + step * 0.5**halving, 0.0)
            new = _likelihood(part, tried, ridge)
            if new[0] < loss:
                break
        else:
            break
        weights, (loss, slope, curve) = tried, new
    return weights


def fit_beside(contests: Contests, ridge: float, *, least: float = -np.inf) -> float:
    """The weight of the second feature, at ``least`` so much, beside the first one's weight of 1."""
    part, weight = contests.found(), 0.0
    loss, slope, curve = _likelihood(part, np.array([1.0, weight]), ridge)
    for _ in range(100):
        step = -slope[1] / curve[1, 1]
        for halving in range(30):
            tried = max(weight + step * 0.5**halving, least)
            new = _likelihood(part, np.array([1.0, tried]), ridge)
            if new[0] < loss:
                break
        else:
            break
        weight, (loss, slope, curve) = tried, new
    return weight


def _likelihood(
    part: Contests, weights: FloatArray, ridge: float
) -> tuple[float, FloatArray, FloatArray]:
    """Penalised −log likelihood, its slope [C] and curvature [C, C]."""
    slope, curve = ridge * weights, ridge * np.eye(len(weights)) + 1e-9 * np.eye(len(weights))
    loss = ridge / 2.0 * float(weights @ weights)
    if not len(part.liked):
        return loss, slope, curve
    begin, lengths = part.offsets[:-1], np.diff(part.offsets)
    scores = part.features @ weights
    highest = np.maximum.reduceat(scores, begin)
    odds = np.exp(scores - np.repeat(highest, lengths))
    total = np.add.reduceat(odds, begin)
    weighted = part.features * (odds / np.repeat(total, lengths))[:, None]
    mean = np.add.reduceat(weighted, begin, axis=0)
    loss += float((highest + np.log(total) - scores[part.liked]).sum())
    slope = slope + (mean - part.features[part.liked]).sum(0)
    return loss, slope, curve + weighted.T @ part.features - mean.T @ mean


def _deviations(scores_BI: FloatArray, free_BI: BoolArray) -> FloatArray:
    """Standard deviation over the free items of each row, [B]; 0 where nothing is free."""
    n = np.maximum(free_BI.sum(1), 1)
    mean = np.where(free_BI, scores_BI, 0.0).sum(1) / n
    return np.asarray(np.sqrt((np.where(free_BI, scores_BI - mean[:, None], 0.0) ** 2).sum(1) / n))


def mark_best(among_BI: BoolArray, scores_BI: FloatArray, free_BI: BoolArray, best: int) -> None:
    """Mark the ``best`` highest free items of every row; of equal ones the smaller indices."""
    if scores_BI.shape[1] <= best:
        among_BI |= free_BI
        return
    falling = np.where(free_BI, -scores_BI, np.inf)
    edge_B1 = np.partition(falling, best - 1, axis=1)[:, best - 1 : best]
    above_BI = falling < edge_B1
    tied_BI = free_BI & (falling == edge_B1)
    left_B1 = best - above_BI.sum(1, keepdims=True)
    among_BI |= above_BI | (tied_BI & (np.cumsum(tied_BI, axis=1) <= left_B1))


def folds_of(users: IntArray, seed: int) -> IntArray:
    """The fold of each like, [Q], drawn from the seed; all of a user in one, of enough users."""
    known, own_Q = np.unique(users, return_inverse=True)
    if len(known) < FOLDS:
        known, own_Q = users, np.arange(len(users))
    turn = np.random.default_rng([seed, len(known)]).permutation(len(known)) % FOLDS
    return np.asarray(turn[own_Q])


def is_above(gains: FloatArray, others: FloatArray, users: IntArray, *, errors: float = SURE) -> bool:
    """Whether ``gains`` [Q] are above ``others`` on average, by more than so many standard errors.

    The error is that of a mean over users drawn anew, each with all of their likes: those of one user
    are not independent.
    """
    apart = gains - others
    _, own_Q = np.unique(users, return_inverse=True)
    sums, counts = np.bincount(own_Q, apart), np.bincount(own_Q)
    mean, n = float(apart.mean()), len(counts)
    if n < 2:
        return False
    error = np.sqrt(((sums - mean * counts) ** 2).sum() * n / (n - 1)) / len(apart)
    return bool(mean > errors * error)
