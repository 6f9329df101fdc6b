"""One list out of several channels: a conditional logit of what was liked next.

    P(i is the next like | the best items of all channels) ∝ exp(Σ_c w_c · score_c(i) / scale_c)

with w_c ≥ 0 and a ridge, fitted on validation likes.  A channel's scale is the mean over users of the
standard deviation of its scores over what may be served: one number for all users, so that a channel
that is sure of one user and not of another may say so.  The like competes with the ``best`` items of
every channel and not with the whole catalogue: that is the choice that a list has to make, and
weights fitted on easy others say nothing about it.  A like that no channel has among its best teaches
nothing.

The guard: weights are drawn towards the best single channel as far as out-of-fold NDCG@10 on the same
likes is higher for it, up to that channel alone.  A fusion that learnt noise is not served.
McFadden, "Conditional logit analysis of qualitative choice behavior" (1974).

Legend: B histories, I items, C channels, Q validation likes, N competing items of all Q together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sasrecllm.baselines.catalogue import CELLS_AT_ONCE, ListChannel, read_out
from sasrecllm.errors import ConfigError, DataError
from sasrecllm.types import BoolArray, FloatArray, Histories, IntArray

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""How far the guard may draw the weights towards the best single channel."""
FOLDS = 5
PLACES = 10
"""Length of the list that the guard judges."""


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


@dataclass(frozen=True)
class ListFusion:
    """The fused channels: a channel itself.

    Args:
        channels: in the order of ``scales`` and ``weights``; one of weight 0 is never asked.
        judged: out-of-fold NDCG@10 on the validation likes: of every channel alone, of ``fusion``,
            and of ``served`` (after the guard).
        drawn: share of the weights that the guard gave to the best single channel.
        likes: validation likes that the weights were fitted on.
    """

    channels: tuple[ListChannel, ...]
    n_items: int
    scales: FloatArray  # [C]
    weights: FloatArray  # [C]
    judged: Mapping[str, float] = field(default_factory=dict)
    drawn: float = 0.0
    likes: int = 0
    name: str = "list fusion"

    @classmethod
    def fit(
        cls,
        channels: Sequence[ListChannel],
        histories: Histories,
        targets: IntArray,
        *,
        n_items: int,
        allow_seen: bool = False,
        best: int = 50,
        ridge: float = 10.0,
        seed: int = 0,
    ) -> ListFusion:
        """Fit on validation likes, which none of the channels may have been trained on.

        Args:
            histories: [Q] what stood before each like.
            targets: [Q] the liked items; one that may not be served teaches nothing.
            allow_seen: items of the history may be served.
            best: items of every channel that compete for a like.
            ridge: pseudo-likes in squared weight that draw the weights towards 0.
            seed: of the folds.

        Raises:
            ConfigError: no channel.
            DataError: no validation like.
        """
        if not channels:
            raise ConfigError("a list fusion was asked for without channels", "name at least one")
        if not len(targets):
            raise DataError(
                "a list fusion has no validation like to learn from",
                "choose a split with likes in validation (data.split)",
            )
        contests, scales = compete(
            channels, histories, targets, n_items=n_items, allow_seen=allow_seen, best=best
        )
        weights = fit_weights(contests, ridge)
        single, out_of_fold = _judge(contests, ridge, seed)
        drawn = max(SHARES, key=lambda share: (out_of_fold[share], -share))
        judged = {c.name: float(v) for c, v in zip(channels, single, strict=True)}
        judged |= {"fusion": out_of_fold[0.0], "served": out_of_fold[drawn]}
        return cls(
            tuple(channels),
            n_items,
            scales,
            _towards(weights, int(np.argmax(single)), drawn),
            judged,
            drawn,
            int((contests.liked >= 0).sum()),
        )

    def with_channels(self, channels: Sequence[ListChannel]) -> ListFusion:
        """The same weights over the channels fitted anew, on the validation likes too."""
        return replace(self, channels=tuple(channels))

    def to_dict(self) -> dict[str, Any]:
        """Everything but the channels, which are named, as plain values."""
        return {
            "channels": [channel.name for channel in self.channels],
            "scales": self.scales.tolist(),
            "weights": self.weights.tolist(),
            "judged": dict(self.judged),
            "drawn": self.drawn,
            "likes": self.likes,
        }

    @classmethod
    def from_dict(
        cls, values: Mapping[str, Any], channels: Sequence[ListChannel], n_items: int
    ) -> ListFusion:
        """What :meth:`to_dict` wrote, over ``channels`` made anew.

        Raises:
            KeyError: a value is missing.
            ValueError: a value is not what it should be.
        """
        scales, weights = (np.array(values[k], dtype=np.float64) for k in ("scales", "weights"))
        for name, found in (("scales", scales), ("weights", weights)):
            if found.shape != (len(channels),) or not (np.isfinite(found) & (found > 0)).all():
                raise ValueError(f"{name} of the list fusion are not {len(channels)} positive numbers")
        judged = {str(name): float(value) for name, value in values["judged"].items()}
        drawn, likes = float(values["drawn"]), int(values["likes"])
        return cls(tuple(channels), n_items, scales, weights, judged, drawn, likes)

    def scores(self, histories: Histories) -> FloatArray:
        """Scores of all items, [B, I]."""
        out = np.zeros((len(histories), self.n_items))
        for channel, weight, scale in zip(self.channels, self.weights, self.scales, strict=True):
            if weight > 0:
                out += weight / scale * channel.scores(histories)
        return out

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C]; 0 for an item outside the catalogue."""
        return read_out(self.scores, histories, candidates, self.n_items)


def servable(histories: Histories, n_items: int, allow_seen: bool) -> BoolArray:
    """Whether each item may be served to each history, [B, I]."""
    if allow_seen:
        return np.ones((len(histories), n_items), dtype=np.bool_)
    return ~histories.met(n_items)


def compete(
    channels: Sequence[ListChannel],
    histories: Histories,
    targets: IntArray,
    *,
    n_items: int,
    allow_seen: bool = False,
    best: int = 50,
) -> tuple[Contests, FloatArray]:
    """The contests of the likes, and the scale of every channel [C]."""
    block = max(1, CELLS_AT_ONCE // max(1, n_items * len(channels)))
    parts, lengths, liked, spread = [], [], [], np.zeros(len(channels))
    for start in range(0, len(targets), block):
        rows = np.arange(start, min(start + block, len(targets)))
        part = histories.take(rows)
        free_BI = servable(part, n_items, allow_seen)
        scores = [np.asarray(channel.scores(part), dtype=np.float64) for channel in channels]
        spread += [_deviations(s, free_BI).sum() for s in scores]
        among_BI = np.zeros_like(free_BI)
        for s in scores:
            _mark_best(among_BI, np.where(free_BI, s, -np.inf), best)
        among_BI &= free_BI
        owner, item = np.nonzero(among_BI)
        parts.append(np.stack([s[owner, item] for s in scores], axis=1))
        place = np.full(len(rows), -1)
        hit = np.flatnonzero(item == targets[rows][owner])
        place[owner[hit]] = hit + sum(map(len, parts[:-1]))
        liked.append(place)
        lengths.append(among_BI.sum(1))
    scales = np.where(spread > 0, spread / max(1, len(targets)), 1.0)
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
    return Contests(np.concatenate(parts) / scales, offsets, np.concatenate(liked)), scales


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


def _judge(contests: Contests, ridge: float, seed: int) -> tuple[FloatArray, dict[float, float]]:
    """NDCG@10 of each channel alone [C], and out-of-fold of the weights drawn towards the best one."""
    count, likes = contests.features.shape[1], len(contests.liked)
    alone = np.stack([contests.gains(row) for row in np.eye(count)])
    fold = np.random.default_rng([seed, likes]).permutation(likes) % FOLDS
    gains = {share: np.zeros(likes) for share in SHARES}
    for number in range(FOLDS):
        held, rest = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        if not len(held):
            continue
        weights = fit_weights(contests.take(rest), ridge)
        best = int(np.argmax(alone[:, rest].mean(1))) if len(rest) else 0
        for share in SHARES:
            gains[share][held] = contests.take(held).gains(_towards(weights, best, share))
    return alone.mean(1), {share: float(values.mean()) for share, values in gains.items()}


def _towards(weights: FloatArray, best: int, share: float) -> FloatArray:
    """The weights with ``share`` of their sum given to the ``best`` channel."""
    drawn = (1.0 - share) * weights
    drawn[best] += share * max(float(weights.sum()), 1.0 if not weights.any() else 0.0)
    if not drawn.any():  # nothing was learnt: the best channel alone
        drawn[best] = 1.0
    return drawn


def _deviations(scores_BI: FloatArray, free_BI: BoolArray) -> FloatArray:
    """Standard deviation over the free items of each row, [B]; 0 where nothing is free."""
    n = np.maximum(free_BI.sum(1), 1)
    mean = np.where(free_BI, scores_BI, 0.0).sum(1) / n
    return np.asarray(np.sqrt((np.where(free_BI, scores_BI - mean[:, None], 0.0) ** 2).sum(1) / n))


def _mark_best(among_BI: BoolArray, scores_BI: FloatArray, best: int) -> None:
    """Mark the ``best`` highest items of every row; of equal ones the smaller indices."""
    items = scores_BI.shape[1]
    if items <= best:
        among_BI[:] = True
        return
    order = np.argsort(-scores_BI, axis=1, kind="stable")[:, :best]
    np.put_along_axis(among_BI, order, True, axis=1)
