"""``fuse_lists``: the channels of the list fusion, and their weights, fitted on the validation likes.

What ``recommend`` orders its lists by.  Weights, the offset of new items and the weight of the run's
own score are fitted with channels made of the training rows alone; then the channels are made again
with the validation rows too, and all that was fitted stays.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from sasrecllm.data.candidates import servable_items
from sasrecllm.fusion.list_fusion import RIDGES, ListFusion
from sasrecllm.runs.channels import CHANNEL_SPLITS, make_channels, new_items, usable
from sasrecllm.runs.folder import StageFolder
from sasrecllm.stages.kind import Kind, Stage, Work
from sasrecllm.stages.list_parts import FEWEST_LIKES, fitted_rerank, with_new_items
from sasrecllm.stages.next_item import validation_likes
from sasrecllm.types import Questions

FALLBACK = "popularity"


class Lists(Kind):
    """One weight for each channel."""

    name = "fuse_lists"
    may_train = (frozenset({"list_fusion"}),)
    has_row = False

    def fit(self, work: Work, stage: Stage, folder: StageFolder) -> dict[str, Any]:
        """The weights; says which channels there were and how good each is alone."""
        likes = validation_likes(work)
        names, notes = usable(work.config.lists.channels, work.system)
        for note in notes:
            work.run.progress.line(f"lists: {note}")
        if len(likes) < FEWEST_LIKES:
            work.run.progress.line(
                f"lists: {len(likes)} validation likes are too few to weigh channels by (at least"
                f" {FEWEST_LIKES}); lists are popularity"
            )
            fusion = self._alone(work, FALLBACK, len(likes))
        else:
            fusion = fit_lists(work, names, likes)
        work.system.list_fusion = fusion = refitted(work, fusion)
        text = said(fusion)
        work.run.progress.line(f"lists: {text}")
        return {"weights": weights_of(fusion), "said": text} | fusion.to_dict()

    def seconds(self, work: Work, stage: Stage) -> float:
        """The channels made once in earnest, twice that and their questions."""
        started = time.monotonic()
        names, _ = usable(work.config.lists.channels, work.system)
        channels = make_channels(names, work.system, work.system.interactions(("train",)))
        made, likes = time.monotonic() - started, validation_likes(work)
        asked = likes.histories.take(np.arange(min(len(likes), 64)))
        started = time.monotonic()
        for channel in channels:
            channel.scores(asked)
        return 2 * made + 4 * (time.monotonic() - started) * len(likes) / max(1, len(asked))

    def made_of(self, work: Work, stage: Stage) -> dict[str, Any] | None:
        """Its settings, and what the next-item encoder is made of.

        The weight of P(like) is that of the run's own last row.
        """
        if stage.load or work.config.lists.rerank:
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
        rows = work.system.interactions(("train",))
        (channel,) = make_channels([name], work.system, rows)
        one = np.ones(1)
        return ListFusion((channel,), work.dataset.n_items, one, one, likes=likes)


def fit_lists(work: Work, names: list[str], likes: Questions) -> ListFusion:
    """Weights, new items and reranker over channels of the training rows alone, fitted on ``likes``.

    What nobody has liked does not compete for the weights: its channels would be judged by what they
    cannot know.  How it is listed is chosen after them.
    """
    c, system, n_items = work.config.lists, work.system, work.dataset.n_items
    rows = system.interactions(("train",))
    free = servable_items(work.dataset, among_I=rows.means.likes > 0)
    bar = work.run.progress.bar("lists: channels")
    channels = make_channels(names, system, rows, progress=bar)
    fusion = ListFusion.fit(
        channels,
        likes.histories,
        likes.targets,
        n_items=n_items,
        free=free,
        best=c.best,
        ridges=RIDGES if c.ridge is None else (c.ridge,),
        seed=work.config.seed,
        bar=work.run.progress.bar,
    ).of_weight()
    fusion = with_new_items(work, fusion, channels, new_items(system), likes)
    return replace(fusion, rerank=fitted_rerank(work, fusion, likes))


def refitted(work: Work, fusion: ListFusion) -> ListFusion:
    """The same fusion over channels of the training and the validation rows.

    What is new stays so: an item with one like is not known yet.
    """
    rows = work.system.interactions(CHANNEL_SPLITS)
    bar = work.run.progress.bar("lists: channels with validation")
    channels = make_channels([c.name for c in fusion.channels], work.system, rows, progress=bar)
    new, share = fusion.new or new_items(work.system), work.config.lists.explore
    fusion = fusion.with_channels(channels)
    return replace(fusion, new=new, explore=round(1 / share) if share else 0)


def weights_of(fusion: ListFusion) -> dict[str, float]:
    """Channel -> weight."""
    return {c.name: float(w) for c, w in zip(fusion.channels, fusion.weights, strict=True)}


def said(fusion: ListFusion) -> str:
    """What lists are ordered by, in words."""
    total = float(fusion.weights.sum())
    shares = sorted(weights_of(fusion).items(), key=lambda pair: -pair[1])
    text = ", ".join(f"{name} {weight / total:.0%}" for name, weight in shares)
    if best := fusion.best_channel:
        if fusion.is_plain:
            text += ": no mixture of channels is better by more than the standard error"
        text += (
            f"; NDCG@10 on {fusion.likes:,} validation likes out of fold"
            f" {fusion.judged['served']:.4f}, best channel alone ({best}) {fusion.judged[best]:.4f}"
        )
    if fusion.whole:
        ways = ", ".join(f"{name} {value:.4f}" for name, value in fusion.whole.items())
        text += f"; where items that no training row likes compete too: {ways}"
    if fusion.rerank is not None:
        text += f"; {fusion.rerank.said}"
    return text
