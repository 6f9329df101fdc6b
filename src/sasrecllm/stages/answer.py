"""``answer``: the language model answers Yes or No, with adapter, mapper and encoder as parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sasrecllm.encoders.crossfit import evened
from sasrecllm.errors import ConfigError
from sasrecllm.evaluation.ablated_scorers import Change
from sasrecllm.runs.folder import StageFolder
from sasrecllm.runs.scorers import llm_scorer
from sasrecllm.runs.system import System
from sasrecllm.settings import LoopSettings
from sasrecllm.stages.kind import Cost, Kind, Spent, Stage, Stages, Work
from sasrecllm.stages.replay import rows_to_learn
from sasrecllm.stages.user_partition import (
    answer_questions,
    choosing_questions,
    holdout_share,
)
from sasrecllm.training.finetune import AnswerTask, encoded_slots
from sasrecllm.training.task import Task
from sasrecllm.types import Scorer


class Answer(Kind):
    """Yes/No answers; the score is logit(Yes) − logit(No)."""

    name = "answer"
    may_train = (
        frozenset(),
        frozenset({"adapter"}),
        frozenset({"mapper"}),
        frozenset({"adapter", "mapper"}),
        frozenset({"encoder", "mapper"}),
        frozenset({"encoder", "adapter", "mapper"}),
    )
    component = "llm"
    asks_language_model = True
    reads_words = True

    def check(self, stage: Stage) -> None:
        """A live encoder cannot be cross-fitted."""
        if "encoder" in stage.train and stage.vectors != "encoder":
            raise ConfigError(
                f"stage {stage.name!r}: the encoder learns, but vectors is {stage.vectors!r}",
                "set the stage's vectors to encoder",
            )

    def fit(self, work: Work, stage: Stage, folder: StageFolder) -> dict[str, Any]:
        """Train on the answers of the users that the stage may learn from."""
        if stage.reads_crossfit:
            work.system.bring_in_folds(work.run.folder, folder.number)
        if (found := self.task(work, stage)) is None:
            return {"steps": 0}
        return work.fit(*found[:2], folder)

    def task(self, work: Work, stage: Stage) -> tuple[Task, LoopSettings, int] | None:
        """The answers as a task of the one loop; None where nothing learns and it is only asked."""
        if not stage.train:
            return None
        c, system = work.config, work.system
        soft = stage.prompt == "soft"
        crossfitted = system.crossfitted() if stage.reads_crossfit else None
        share = holdout_share(c, work.stages)
        asked = answer_questions(work.dataset, stage, share, c.seed)
        if work.dataset.former is not None:
            learnt = rows_to_learn(work.dataset, c)
            asked = asked.take(np.flatnonzero(np.isin(asked.rows, learnt)))
        cold = None
        if crossfitted is not None:
            missing = crossfitted.without_vector(asked.histories.users, asked.targets)
            asked, cold = evened(asked, missing)
        if "mapper" in stage.train and not work.former_parts(stage):
            slots = encoded_slots(crossfitted or system.encoder, asked)
            system.model.mapper.fit_normalisation(*slots)
        task = AnswerTask(
            stage.name,
            system.model,
            system.builder(stage.prompt),
            asked,
            choosing_questions(work.questions("valid"), c.llm.validation_users, c.seed),
            parts=stage.train,
            encoder=system.encoder if soft else None,
            train_encoder=crossfitted,
            cold_item_dropout=c.mapper.cold_item_dropout if soft else 0.0,
            cold=cold,
            score_batch=c.llm.score_batch,
            device=system.device,
        )
        return task, work.loop(stage, c.llm.loop), 1

    def scorer(
        self, system: System, stage: Stage, stages: Stages, change: Change | None = None
    ) -> Scorer:
        """The language model with the stage's prompt."""
        return llm_scorer(system, stage.row, stage.prompt, change)

    def cost(self, stage: Stage, spent: Spent, per_row: float, parameters: Mapping[str, int]) -> Cost:
        """A text prompt needs the language model alone, a soft one the encoder and all before too."""
        if stage.prompt == "soft":
            everything = sum(parameters.values())
            return Cost(spent.language + spent.everything, everything, per_row)
        llm = sum(n for part, n in parameters.items() if part not in ("encoder", "mapper"))
        return Cost(spent.language + spent.own, llm, per_row)
