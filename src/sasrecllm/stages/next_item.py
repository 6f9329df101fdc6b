"""``next_item``: an encoder that says which item is liked next, whatever the feedback is."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sasrecllm.data.candidates import servable_likes
from sasrecllm.data.sequences import Windows
from sasrecllm.encoders.losses import loss_of
from sasrecllm.encoders.sequence import SequentialEncoder
from sasrecllm.runs.folder import StageFolder
from sasrecllm.seeds import VALIDATION_LIKES
from sasrecllm.settings import LoopSettings
from sasrecllm.stages.kind import Kind, Stage, Work
from sasrecllm.stages.replay import steps_of_update, windows_to_learn
from sasrecllm.training.loop import steps_in_all
from sasrecllm.training.next_item import NextItemTask, budget_of
from sasrecllm.training.task import Task
from sasrecllm.types import Questions


class NextItem(Kind):
    """The run's kind of encoder, trained on likes with a softmax over the catalogue."""

    name = "next_item"
    may_train = (frozenset({"next_item"}),)
    has_row = False

    def fit(self, work: Work, stage: Stage, folder: StageFolder) -> dict[str, Any]:
        """Train it; or take the run's own encoder, where that is trained for the same already."""
        encoder = work.system.next_item
        if is_next_item(work):
            encoder.load_state_dict(work.system.encoder.state_dict())
            work.run.progress.line(
                f"stage {stage.name}: the run's encoder is one, and is taken as it is"
            )
            return {"taken_from": "encoder"}
        task, settings, _ = self.task(work, stage)
        return work.fit(task, settings, folder)

    def task(self, work: Work, stage: Stage) -> tuple[Task, LoopSettings, int]:
        """Its training, with as many steps as the budget allows for this data."""
        c, data, encoder = work.config, work.dataset, work.system.next_item
        likes = data.rows("train")
        cut = windows_to_learn(data, c, encoder, likes[data.labels[likes] == 1])
        settings = work.loop(stage, c.lists.next_item.loop)
        budget = budget_of(
            c.lists.next_item.seconds,
            encoder,
            likes=len(cut.row),
            windows=len(cut),
            batch_size=settings.batch_size,
        )
        copies = 0 if is_next_item(work) else 1
        most = steps_of_update(data, c, budget.steps)
        steps = min(most, settings.max_steps or most)
        if not work.former_parts(stage):
            start_at_popularity(encoder, cut)
        task = NextItemTask(
            stage.name,
            encoder,
            cut,
            validation_likes(work),
            loss=budget.loss,
            negatives=256,
            allow_seen=data.allow_seen,
            device=work.system.device,
        )
        return task, settings.model_copy(update={"max_steps": steps}), copies

    def made_of(self, work: Work, stage: Stage) -> dict[str, Any] | None:
        """The encoder and its training, as the budget leaves it; nothing of the other stages."""
        if is_next_item(work) or stage.load:
            return None
        task, settings, _ = self.task(work, stage)
        assert isinstance(task, NextItemTask)
        steps = steps_in_all(len(task.lengths), settings)
        return {
            "encoder": work.system.next_item.config,
            "loss": task.loss,
            "loop": settings.model_dump() | {"max_steps": steps},
            "likes": work.config.lists.likes,
        }


def is_next_item(work: Work) -> bool:
    """Whether the run's own encoder is what this kind would train."""
    c = work.config.encoder
    learns = [s.kind.name for s in work.stages.values() if "encoder" in s.train]
    alone = learns == ["encode"]  # a title prior would move its vectors
    same = c.likes_only and loss_of(c.loss).likes_only
    alike = c.loop.model_dump() == work.config.lists.next_item.loop.model_dump()
    loaded = any("encoder" in s.load for s in work.stages.values())
    return (
        work.dataset.implicit
        and alone
        and same
        and alike
        and not loaded
        and work.system.encoder.config == work.system.next_item.config
    )


def validation_likes(work: Work) -> Questions:
    """Likes of the validation split whose items may be served, each with what stood before it.

    Of many a seeded sample (``lists.likes``).
    """
    data, most = work.dataset, work.config.lists.likes
    rows = servable_likes(data, "valid")
    if len(rows) > most:
        rng = np.random.default_rng([work.config.seed, VALIDATION_LIKES])
        rows = np.sort(rng.permutation(rows)[:most])
    return Questions(data.histories(rows), data.items[rows], data.labels[rows], rows)


def start_at_popularity(encoder: SequentialEncoder, cut: Windows) -> None:
    """Begin with the logarithm of the likes as the items' biases, so that training need not find it."""
    if encoder.item_bias is None:
        return
    counts = np.bincount(cut.target[cut.label == 1], minlength=encoder.n_items)
    start = torch.from_numpy(np.log(counts + 0.5)).to(encoder.item_bias)
    with torch.no_grad():
        encoder.item_bias.copy_(start - start.mean())
