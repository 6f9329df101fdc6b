"""``fuse_lists``: the channels of the list fusion, and their weights, fitted on the validation likes.

What ``recommend`` orders its lists by.  The weights are fitted with channels made of the training rows
alone; then the channels are made again with the validation rows too, and weights and scales stay.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from sasrecllm.baselines.catalogue import ListChannel
from sasrecllm.baselines.list_fusion import ListFusion
from sasrecllm.runs.channels import CHANNEL_SPLITS, make_channels, usable
from sasrecllm.runs.folder import StageFolder
from sasrecllm.stages.kind import Kind, Stage, Work
from sasrecllm.stages.next_item import validation_likes
from sasrecllm.types import Questions

FEWEST_LIKES = 20
"""Validation likes below which weights would be luck."""
FALLBACK = "popularity"


class Lists(Kind):
    """One weight for each channel."""

    name = "fuse_lists"
    may_train = (frozenset({"list_fusion"}),)
    has_row = False

    def fit(self, work: Work, stage: Stage, folder: StageFolder) -> dict[str, Any]:
        """The weights; says which channels there were and how good each is alone."""
        system, likes = work.system, validation_likes(work)
        names, notes = usable(work.config.lists.channels, work.dataset)
        for note in notes:
            work.run.progress.line(f"lists: {note}")
        if len(likes) < FEWEST_LIKES:
            work.run.progress.line(
                f"lists: {len(likes)} validation likes are too few to weigh channels by (at least"
                f" {FEWEST_LIKES}); lists are popularity"
            )
            fusion = self._alone(work, FALLBACK, len(likes))
        else:
            channels = make_channels(names, system, system.interactions(("train",)))
            fusion = served(fit_lists(work, channels, likes))
            chosen = [channel.name for channel in fusion.channels]
            both = system.interactions(CHANNEL_SPLITS)
            fusion = fusion.with_channels(make_channels(chosen, system, both))
        system.list_fusion = fusion
        work.run.progress.line(f"lists: {said(fusion)}")
        return {"weights": weights_of(fusion), "judged": dict(fusion.judged), "drawn": fusion.drawn}

    def seconds(self, work: Work, stage: Stage) -> float:
        """The channels made once in earnest, twice that and their questions."""
        started = time.monotonic()
        names, _ = usable(work.config.lists.channels, work.dataset)
        channels = make_channels(names, work.system, work.system.interactions(("train",)))
        made, likes = time.monotonic() - started, validation_likes(work)
        asked = likes.histories.take(np.arange(min(len(likes), 64)))
        started = time.monotonic()
        for channel in channels:
            channel.scores(asked)
        return 2 * made + 3 * (time.monotonic() - started) * len(likes) / max(1, len(asked))

    def made_of(self, work: Work, stage: Stage) -> dict[str, Any] | None:
        """Its settings, and what the next-item encoder is made of."""
        if stage.load:
            return None
        own = {"lists": work.config.lists.model_dump(exclude={"next_item"}), "seed": work.config.seed}
        for other in work.stages.values():
            if "next_item" in other.train:
                made = other.kind.made_of(work, other)
                if made is None:
                    return None
                own[other.name] = made
        return own

    @staticmethod
    def _alone(work: Work, name: str, likes: int) -> ListFusion:
        rows = work.system.interactions(CHANNEL_SPLITS)
        (channel,) = make_channels([name], work.system, rows)
        return ListFusion((channel,), work.dataset.n_items, np.ones(1), np.ones(1), likes=likes)


def fit_lists(work: Work, channels: list[ListChannel], likes: Questions) -> ListFusion:
    """The fusion of ``channels``, fitted on ``likes``."""
    c = work.config.lists
    return ListFusion.fit(
        channels,
        likes.histories,
        likes.targets,
        n_items=work.dataset.n_items,
        allow_seen=work.dataset.allow_seen,
        best=c.best,
        ridge=c.ridge,
        seed=work.config.seed,
    )


def served(fusion: ListFusion) -> ListFusion:
    """Without the channels of weight 0, which are neither kept nor asked."""
    kept = np.flatnonzero(fusion.weights > 0)
    channels = tuple(fusion.channels[place] for place in kept)
    return replace(fusion, channels=channels, scales=fusion.scales[kept], weights=fusion.weights[kept])


def weights_of(fusion: ListFusion) -> dict[str, float]:
    """Channel -> weight."""
    return {c.name: float(w) for c, w in zip(fusion.channels, fusion.weights, strict=True)}


def said(fusion: ListFusion) -> str:
    """What lists are ordered by, in words."""
    total = float(fusion.weights.sum())
    shares = sorted(weights_of(fusion).items(), key=lambda pair: -pair[1])
    text = ", ".join(f"{name} {weight / total:.0%}" for name, weight in shares)
    if "served" in fusion.judged:
        names = [n for n in fusion.judged if n not in ("fusion", "served")]
        best = max(names, key=lambda name: fusion.judged[name])
        text += (
            f"; NDCG@10 on {fusion.likes:,} validation likes out of fold"
            f" {fusion.judged['served']:.4f}, best channel alone ({best}) {fusion.judged[best]:.4f}"
        )
    return text
