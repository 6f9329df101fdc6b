"""``encode``: the encoder on its own task, and the fold encoders where a later stage reads them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np

from sasrecllm.data.sequences import Windows
from sasrecllm.encoders.losses import loss_of
from sasrecllm.encoders.scorer import EncoderScorer
from sasrecllm.encoders.sequence import SequentialEncoder
from sasrecllm.evaluation.ablated_scorers import Change
from sasrecllm.machine.distributed import is_main_process, wait_for_all
from sasrecllm.runs.folder import FOLD, StageFolder
from sasrecllm.runs.system import System
from sasrecllm.settings import LoopSettings
from sasrecllm.stages.kind import Cost, Kind, Spent, Stage, Stages, Work
from sasrecllm.stages.replay import draw_towards, windows_to_learn
from sasrecllm.stages.user_partition import uses_crossfit
from sasrecllm.training.pretrain import EncoderTask, moves_touched_rows
from sasrecllm.training.task import Task
from sasrecllm.types import IntArray, Scorer


class EncoderKind(Kind):
    """What the stages that give an encoder share: their score is the encoder's logit."""

    may_train = (frozenset({"encoder"}),)
    component = "encoder"
    ranks_catalogue = True

    def scorer(
        self, system: System, stage: Stage, stages: Stages, change: Change | None = None
    ) -> Scorer:
        """The encoder's logits."""
        return EncoderScorer(stage.row, system.encoder)

    def cost(self, stage: Stage, spent: Spent, per_row: float, parameters: Mapping[str, int]) -> Cost:
        """The encoder's own stages, and nothing of the language model."""
        spent.encoder += spent.own
        return Cost(spent.encoder, parameters["encoder"], per_row)


class Encode(EncoderKind):
    """The encoder, trained apart from the language model."""

    name = "encode"
    trains_folds = True

    def fit(self, work: Work, stage: Stage, folder: StageFolder) -> dict[str, Any]:
        """The encoder on all training rows, and each fold encoder on those of the other folds."""
        rows, former = work.dataset.rows("train"), work.former_parts(stage)
        result = _fit(work, stage, work.system.encoder, folder, stage.name, rows)
        if not _wants_folds(work):
            return result
        fold_of_user = work.system.fold_of_user[work.dataset.users]
        folds = work.system.new_folds()
        for number, encoder in enumerate(folds):
            part = f"{FOLD}{number}"
            if not folder.part(part).exists():
                shown = rows[fold_of_user[rows] != number]
                count = np.bincount(work.dataset.items[shown], minlength=work.dataset.n_items)
                encoder.mark_seen(count > 0)
                if part in former:
                    work.system.begin_with(part, former[part])
                name = f"{stage.name} without fold {number + 1}/{len(folds)}"
                _fit(work, stage, encoder, folder.fold(number), name, shown)
                if is_main_process():
                    work.system.save(part, folder.part(part))
                    shutil.rmtree(folder.fold(number), ignore_errors=True)
            wait_for_all()
        return result

    def task(self, work: Work, stage: Stage) -> tuple[Task, LoopSettings, int]:
        """The encoder's training, once for itself and once for each fold."""
        encoder, rows = work.system.encoder, work.dataset.rows("train")
        cut = windows_to_learn(work.dataset, work.config, encoder, rows)
        task = _task(work, stage.name, encoder, cut)
        copies = 1 + (work.config.encoder.folds if _wants_folds(work) else 0)
        return task, work.loop(stage, work.config.encoder.loop), copies


def _wants_folds(work: Work) -> bool:
    return work.config.encoder.folds > 1 and uses_crossfit(work.stages)


def _fit(
    work: Work,
    stage: Stage,
    encoder: SequentialEncoder,
    folder: StageFolder,
    name: str,
    rows: IntArray,
) -> dict[str, Any]:
    """Train one encoder on some training rows."""
    c = work.config
    cut = windows_to_learn(work.dataset, c, encoder, rows)
    if work.former_parts(stage) and not loss_of(c.encoder.loss).likes_only:
        share = c.update.fresh * len(cut.row) / len(rows)
        draw_towards(encoder, work.system.new_encoder(c.seed), share)
    return work.fit(_task(work, name, encoder, cut), work.loop(stage, c.encoder.loop), folder)


def _task(work: Work, name: str, encoder: SequentialEncoder, cut: Windows) -> EncoderTask:
    c = work.config.encoder
    return EncoderTask(
        name,
        encoder,
        cut,
        work.questions("valid"),
        loss=c.loss,
        negatives=c.negatives,
        touched_rows=moves_touched_rows(c.item_updates, c.loss, work.dataset.n_items),
        device=work.system.device,
    )
