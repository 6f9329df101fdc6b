"""One list out of several channels: a conditional logit of what was liked next.

    P(i is the next like | the best items of all channels) ∝ exp(Σ_c w_c · score_c(i) / scale_c)

with w_c ≥ 0 and a ridge, fitted on validation likes (:mod:`.contests`).  A channel's scale is the mean
over users of the standard deviation of its scores over what may be served: one number for all users, so
that a channel that is sure of one user and not of another may say so.

The ridge is chosen out of fold: the largest of ``RIDGES`` whose NDCG@10 is within one standard error
of the best one's (Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3).  Under a
large one each channel has a weight as it would earn it alone, so that a few likes cannot set one of
several channels that say much the same above the others by luck.

The guards: where the best single channel is better by more than 1.96 standard errors, it is served
alone.  And where the fusion is not better than popularity by more than one, lists are popularity: taste
must show.  Of several kinds of popularity it is then the first, unless another one is surely better:
the best of three on a few likes is luck.  Folds and errors are of users, whose likes are not
independent.
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
from sasrecllm.errors import ConfigError, DataError
from sasrecllm.fusion.contests import (
    FOLDS,
    Contests,
    compete,
    fit_weights,
    folds_of,
    is_above,
)
from sasrecllm.fusion.list_rerank import Rerank
from sasrecllm.fusion.new_items_in_lists import NewItems
from sasrecllm.machine.progress import Tell
from sasrecllm.types import FloatArray, Free, Histories, IntArray

RIDGES = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
"""Penalties that are tried, in likes."""


@dataclass(frozen=True)
class ListFusion:
    """The fused channels: a channel itself.

    Args:
        channels: in the order of ``scales`` and ``weights``; one of weight 0 is never asked.
        judged: out-of-fold NDCG@10 on the validation likes: of every channel alone, of ``fusion``,
            and of ``served`` (after the guard).
        ridge: penalty that the weights were fitted with; 0 where one channel is served alone.
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
    ridge: float = 0.0
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
        ridges: Sequence[float] = RIDGES,
        seed: int = 0,
        bar: Callable[[str], Tell] | None = None,
    ) -> ListFusion:
        """Fit on validation likes, which none of the channels may have been trained on.

        Args:
            histories: [Q] what stood before each like.
            targets: [Q] the liked items; one that may not be served teaches nothing.
            free: what may be served, and so competes.
            best: items of every channel that compete for a like.
            ridges: pseudo-likes in squared weight that draw the weights towards 0; one is chosen.
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
        progress = None if bar is None else bar("lists: validation likes")
        contests, scales = compete(
            channels, histories, targets, free=free, n_items=n_items, best=best, progress=progress
        )
        alone = np.stack([contests.gains(row) for row in np.eye(len(channels))])  # [C, Q]
        progress = None if bar is None else bar("lists: weights of fold")
        ridge, fused = _chosen(contests, alone, sorted(ridges), histories.users, seed, progress)
        weights, served = _or_alone(fit_weights(contests, ridge), int(np.argmax(alone.mean(1)))), fused
        plain = [place for place, channel in enumerate(channels) if is_plain(channel)]
        instead = _channel_instead(alone, fused, histories.users, plain)
        if instead is not None:
            weights, served, ridge = np.eye(len(channels))[instead], alone[instead], 0.0
        judged = {c.name: float(v.mean()) for c, v in zip(channels, alone, strict=True)}
        judged |= {"fusion": float(fused.mean()), "served": float(served.mean())}
        return cls(tuple(channels), n_items, scales, weights, judged, ridge, len(targets))

    def with_channels(self, channels: Sequence[ListChannel]) -> ListFusion:
        """The same weights over the channels fitted anew, on the validation likes too."""
        return replace(self, channels=tuple(channels))

    def alone(self, channel: ListChannel) -> ListFusion:
        """One channel that knows new items in place of the weighed ones."""
        new = None if self.new is None else self.new.with_offset(0.0)
        one = np.ones(1)
        return replace(self, channels=(channel,), scales=one, weights=one, ridge=0.0, new=new)

    def of_weight(self) -> ListFusion:
        """Without the channels of weight 0, which need be neither kept nor asked."""
        kept = np.flatnonzero(self.weights > 0)
        channels = tuple(self.channels[place] for place in kept)
        return replace(self, channels=channels, scales=self.scales[kept], weights=self.weights[kept])

    @property
    def best_channel(self) -> str:
        """The channel that is best alone on the validation likes; empty where none was judged."""
        alone = {n: v for n, v in self.judged.items() if n not in ("fusion", "served")}
        return max(alone, key=lambda name: alone[name], default="")

    @property
    def is_plain(self) -> bool:
        """Whether everybody gets the same order."""
        asked = [c for c, w in zip(self.channels, self.weights, strict=True) if w > 0]
        return all(is_plain(c) for c in asked) and not (self.rerank and self.rerank.weight)

    @property
    def rerank_prompts(self) -> int:
        """Prompts of the language model that one list costs; 0 where it is not asked for the order."""
        return 0 if self.rerank is None else self.rerank.prompts

    def to_dict(self) -> dict[str, Any]:
        """Everything but the channels and the new items, which are named, as plain values."""
        return {
            "channels": [channel.name for channel in self.channels],
            "scales": self.scales.tolist(),
            "weights": self.weights.tolist(),
            "judged": dict(self.judged),
            "ridge": self.ridge,
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
            float(values.get("ridge", 0.0)),  # absent in a run of an earlier version
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


def _chosen(
    contests: Contests,
    alone: FloatArray,
    ridges: Sequence[float],
    users: IntArray,
    seed: int,
    progress: Tell | None = None,
) -> tuple[float, FloatArray]:
    """The ridge of the weights, and their out-of-fold NDCG@10, [Q]; see the module."""
    fold = folds_of(users, seed)
    gains = np.zeros((len(ridges), len(fold)))
    for number in range(FOLDS):
        held, rest = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        taught, asked = contests.take(rest).found(), contests.take(held)
        best = int(np.argmax(alone[:, rest].sum(1)))
        for place, ridge in enumerate(ridges):
            gains[place, held] = asked.gains(_or_alone(fit_weights(taught, ridge), best))
        if progress is not None:
            progress(number + 1, FOLDS)
    highest = int(np.argmax(gains.mean(1)))
    near = [
        place
        for place in range(highest, len(ridges))
        if not is_above(gains[highest], gains[place], users, errors=1.0)
    ]
    return ridges[near[-1]], gains[near[-1]]


def _channel_instead(
    alone: FloatArray, fused: FloatArray, users: IntArray, plain: Sequence[int]
) -> int | None:
    """The guard of the mixture: the channel that is served alone in its place, if any.

    The best channel, where it is surely above the mixture; popularity, where neither is above it by
    one standard error, and of its forms the first unless another is surely better.

    Args:
        alone: [C, Q] out-of-fold NDCG@10 of every channel.
        fused: [Q] that of the mixture.
        plain: places of the channels that tell everybody the same.
    """
    one = int(np.argmax(alone.mean(1)))
    instead = one if is_above(alone[one], fused, users) else None
    served = fused if instead is None else alone[instead]
    if plain:
        popular = max(plain, key=lambda place: (alone[place].mean(), -place))
        if not is_above(served, alone[popular], users, errors=1.0):
            return popular if is_above(alone[popular], alone[plain[0]], users) else plain[0]
    return instead


def _or_alone(weights: FloatArray, best: int) -> FloatArray:
    """The weights; where nothing was learnt the ``best`` channel alone."""
    return weights if weights.any() else np.eye(len(weights))[best]
