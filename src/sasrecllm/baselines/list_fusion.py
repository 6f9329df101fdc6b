"""One list out of several channels: a conditional logit of what was liked next.

    P(i is the next like | the best items of all channels) ∝ exp(Σ_c w_c · score_c(i) / scale_c)

with w_c ≥ 0 and a ridge, fitted on validation likes (:mod:`.contests`).  A channel's scale is the mean
over users of the standard deviation of its scores over what may be served: one number for all users, so
that a channel that is sure of one user and not of another may say so.

The guard: weights are drawn towards the best single channel as far as out-of-fold NDCG@10 on the same
likes is higher for it, up to that channel alone.  And where the fusion is not better than popularity
by more than the standard error of the difference, lists are popularity: taste must show.
McFadden, "Conditional logit analysis of qualitative choice behavior" (1974).

Items without a like are :mod:`.new_items_in_lists`; a score that costs too much for a whole catalogue
joins as :class:`Rerank`.

Legend: B histories, I items, C channels, Q validation likes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from sasrecllm.baselines.catalogue import ListChannel, read_out
from sasrecllm.baselines.contests import FOLDS, Contests, compete, fit_weights, folds_of
from sasrecllm.baselines.list_rerank import Rerank
from sasrecllm.baselines.new_items_in_lists import NewItems
from sasrecllm.errors import ConfigError, DataError
from sasrecllm.machine.progress import Tell
from sasrecllm.types import FloatArray, Free, Histories, IntArray

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""How far the guard may draw the weights towards the best single channel."""


@dataclass(frozen=True)
class ListFusion:
    """The fused channels: a channel itself.

    Args:
        channels: in the order of ``scales`` and ``weights``; one of weight 0 is never asked.
        judged: out-of-fold NDCG@10 on the validation likes: of every channel alone, of ``fusion``,
            and of ``served`` (after the guard).
        drawn: share of the weights that the guard gave to the best single channel.
        likes: validation likes that the channels were judged on.
        whole: NDCG@10 on the validation likes where new items compete too, of the ways to list them
            (:func:`~sasrecllm.stages.list_parts.with_new_items`).
        new: the items that nobody has liked; None leaves them where their channels put them.
        explore: every so many places one is a new item's; 0: none.
        rerank: the run's own score as one more channel; None where it was not weighed.
    """

    channels: tuple[ListChannel, ...]
    n_items: int
    scales: FloatArray  # [C]
    weights: FloatArray  # [C]
    judged: Mapping[str, float] = field(default_factory=dict)
    drawn: float = 0.0
    likes: int = 0
    whole: Mapping[str, float] = field(default_factory=dict)
    new: NewItems | None = None
    explore: int = 0
    rerank: Rerank | None = None
    name: str = "list fusion"

    @classmethod
    def fit(
        cls,
        channels: Sequence[ListChannel],
        histories: Histories,
        targets: IntArray,
        *,
        n_items: int,
        free: Free,
        best: int = 50,
        ridge: float = 10.0,
        seed: int = 0,
        bar: Callable[[str], Tell] | None = None,
    ) -> ListFusion:
        """Fit on validation likes, which none of the channels may have been trained on.

        Args:
            histories: [Q] what stood before each like.
            targets: [Q] the liked items; one that may not be served teaches nothing.
            free: what may be served, and so competes.
            best: items of every channel that compete for a like.
            ridge: pseudo-likes in squared weight that draw the weights towards 0.
            seed: of the folds.
            bar: makes of a name what is told how far a loop is.

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
        told = None if bar is None else bar("lists: validation likes")
        contests, scales = compete(
            channels, histories, targets, free=free, n_items=n_items, best=best, progress=told
        )
        plain = [place for place, channel in enumerate(channels) if is_plain(channel)]
        alone = np.stack([contests.gains(row) for row in np.eye(len(channels))])  # [C, Q]
        told = None if bar is None else bar("lists: weights of fold")
        out_of_fold = _out_of_fold(contests, alone, ridge, seed, told)
        drawn = max(SHARES, key=lambda share: (out_of_fold[share].mean(), -share))
        served, best_one = out_of_fold[drawn], int(np.argmax(alone.mean(1)))
        if plain:
            popular = max(plain, key=lambda place: (alone[place].mean(), -place))
            gain = served - alone[popular]
            if gain.mean() <= gain.std() / np.sqrt(len(gain)):
                served, best_one, drawn = alone[popular], popular, 1.0
        judged = {c.name: float(v.mean()) for c, v in zip(channels, alone, strict=True)}
        judged |= {"fusion": float(out_of_fold[0.0].mean()), "served": float(served.mean())}
        weights = _towards(fit_weights(contests, ridge), best_one, drawn)
        return cls(tuple(channels), n_items, scales, weights, judged, drawn, len(targets))

    def with_channels(self, channels: Sequence[ListChannel]) -> ListFusion:
        """The same weights over the channels fitted anew, on the validation likes too."""
        return replace(self, channels=tuple(channels))

    def alone(self, channel: ListChannel) -> ListFusion:
        """One channel that knows new items in place of the weighed ones."""
        new = None if self.new is None else self.new.with_offset(0.0)
        one = np.ones(1)
        return replace(self, channels=(channel,), scales=one, weights=one, drawn=1.0, new=new)

    def of_weight(self) -> ListFusion:
        """Without the channels of weight 0, which need be neither kept nor asked."""
        kept = np.flatnonzero(self.weights > 0)
        channels = tuple(self.channels[place] for place in kept)
        return replace(self, channels=channels, scales=self.scales[kept], weights=self.weights[kept])

    @property
    def is_plain(self) -> bool:
        """Whether everybody gets the same order."""
        asked = [c for c, w in zip(self.channels, self.weights, strict=True) if w > 0]
        return all(is_plain(c) for c in asked) and not (self.rerank and self.rerank.weight)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the channels and the new items, which are named, as plain values."""
        return {
            "channels": [channel.name for channel in self.channels],
            "scales": self.scales.tolist(),
            "weights": self.weights.tolist(),
            "judged": dict(self.judged),
            "drawn": self.drawn,
            "likes": self.likes,
            "whole": dict(self.whole),
            "offset": None if self.new is None else self.new.offset,
            "explore": self.explore,
            "rerank": None if self.rerank is None else asdict(self.rerank),
        }

    @classmethod
    def from_dict(
        cls,
        values: Mapping[str, Any],
        channels: Sequence[ListChannel],
        n_items: int,
        new: NewItems | None = None,
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
        rerank = None if values["rerank"] is None else Rerank.from_dict(values["rerank"])
        return cls(
            tuple(channels),
            n_items,
            scales,
            weights,
            judged,
            float(values["drawn"]),
            int(values["likes"]),
            {str(name): float(value) for name, value in values.get("whole", {}).items()},
            new,
            int(values["explore"]),
            rerank,
        )

    def scores(self, histories: Histories) -> FloatArray:
        """Scores of all items, [B, I]; without ``rerank``, which asks about the best of them alone."""
        by_likes, by_words = np.zeros((2, len(histories), self.n_items))
        for channel, weight, scale in zip(self.channels, self.weights, self.scales, strict=True):
            if weight > 0:
                found = weight / scale * channel.scores(histories)
                out = by_words if knows_new_items(channel) else by_likes
                out[:, : found.shape[1]] += found
        return by_words + (by_likes if self.new is None else self.new.filled(by_likes))

    def score(self, histories: Histories, candidates: IntArray) -> FloatArray:
        """Scores of ``candidates`` [B, C]; 0 for an item outside the catalogue."""
        return read_out(self.scores, histories, candidates, self.n_items)


def is_plain(channel: ListChannel) -> bool:
    """Whether a channel tells everybody the same: popularity, in whatever form."""
    return bool(getattr(channel, "is_plain", False))


def knows_new_items(channel: ListChannel) -> bool:
    """Whether a channel needs no like to know an item."""
    return bool(getattr(channel, "knows_new_items", False))


def _out_of_fold(
    contests: Contests, alone: FloatArray, ridge: float, seed: int, progress: Tell | None = None
) -> dict[float, FloatArray]:
    """Share -> NDCG@10 [Q] of weights of the other folds, drawn so far towards their best channel."""
    likes = len(contests.liked)
    fold = folds_of(likes, seed)
    gains = {share: np.zeros(likes) for share in SHARES}
    for number in range(FOLDS):
        held, rest = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        if not len(held):
            continue
        weights = fit_weights(contests.take(rest), ridge)
        best = int(np.argmax(alone[:, rest].mean(1))) if len(rest) else 0
        for share in SHARES:
            gains[share][held] = contests.take(held).gains(_towards(weights, best, share))
        if progress is not None:
            progress(number + 1, FOLDS)
    return gains


def _towards(weights: FloatArray, best: int, share: float) -> FloatArray:
    """The weights with ``share`` of their sum given to the ``best`` channel."""
    drawn = (1.0 - share) * weights
    drawn[best] += share * max(float(weights.sum()), 1.0 if not weights.any() else 0.0)
    if not drawn.any():  # nothing was learnt: the best channel alone
        drawn[best] = 1.0
    return drawn
