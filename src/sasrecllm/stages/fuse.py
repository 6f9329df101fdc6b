"""``fuse``: a calibrated sum of the models' logits and of baselines, fitted on the validation split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sasrecllm.baselines.table import baseline_of
from sasrecllm.evaluation.ablated_scorers import Change
from sasrecllm.fusion.score_fusion import Fusion, FusionWeights, fit_fusion
from sasrecllm.runs.folder import StageFolder
from sasrecllm.runs.parts import MODELS
from sasrecllm.runs.scorers import component
from sasrecllm.runs.system import System
from sasrecllm.settings import Config
from sasrecllm.stages.kind import Cost, Kind, Spent, Stage, Stages, Work
from sasrecllm.stages.stored_scores import scores_of
from sasrecllm.types import FloatArray, Scorer

COMPONENTS = "fusion.components"


class Fuse(Kind):
    """No training of any model: one weight for each score."""

    name = "fuse"
    may_train = (frozenset({"fusion"}),)

    def prompt(self, stage: Stage, stages: Stages, config: Config) -> str | None:
        """The prompt of the last stage that asks the language model; None where no component does."""
        return last_prompt(stages) if asking(config, stages) else None

    def fit(self, work: Work, stage: Stage, folder: StageFolder) -> dict[str, Any]:
        """The weights, from the validation scores of the stages before and of baselines."""
        names = fused(work.config, work.stages)
        work.system.fusion = _fitted(work, _columns(work, stage, "valid"), names)
        return {"weights": work.system.fusion.to_dict()}

    def scorer(
        self, system: System, stage: Stage, stages: Stages, change: Change | None = None
    ) -> Scorer:
        """The sum, each of whose models is asked anew."""
        assert system.fusion is not None
        parts: list[Scorer] = []
        for name in system.fusion.components:
            giver = _giver(name, stage, stages)
            if giver is None:
                parts.append(component(system, name, last_prompt(stages) or "text", change))
            else:
                parts.append(giver.kind.scorer(system, giver, stages, change))
        return Fusion(stage.row, system.fusion, parts, system.dataset.seen_items)

    def scores(self, work: Work, stage: Stage, split: str) -> FloatArray:
        """The sum of the scores that the stages before wrote: no model is asked twice."""
        assert work.system.fusion is not None
        unseen = ~work.dataset.seen_items[work.questions(split).targets]
        return work.system.fusion.combine(_columns(work, stage, split), unseen)

    def cost(self, stage: Stage, spent: Spent, per_row: float, parameters: Mapping[str, int]) -> Cost:
        """Everything that the run trained, and the time of all models."""
        asked = sum(spent.per_row.values()) or per_row  # no model was asked: what the sum itself takes
        return Cost(spent.language + spent.everything, sum(parameters.values()), asked)


def fused(config: Config, stages: Stages) -> list[str]:
    """The fusion's components, less the models that no stage of this strategy trains or loads."""
    given = {s.kind.component for s in stages.values()} | _loaded_models(stages)
    return [name for name in config.fusion.components if name in given or name not in MODELS]


def worded(config: Config, stages: Stages) -> list[str]:
    """Of the fusion's components those that know an item without training rows by its words."""
    readers = {s.kind.component for s in stages.values() if s.kind.reads_words} | _loaded_models(stages)
    models = {*MODELS, *(s.kind.component for s in stages.values())}
    names = fused(config, stages)
    readers |= {n for n in names if n not in models and baseline_of(n, COMPONENTS).reads_words}
    return [name for name in names if name in readers]


def asking(config: Config, stages: Stages) -> list[str]:
    """Of the fusion's components those that ask the language model."""
    models = {s.kind.component for s in stages.values() if s.kind.asks_language_model}
    return [name for name in fused(config, stages) if name in models]


def without_language_model(work: Work, stage: Stage) -> FloatArray | None:
    """Test scores [Q] of the sum of all components that do not ask it, with weights fitted anew.

    What a sum is above its best summand is no merit of one of them: this is what it has without.  None
    where nothing of it asks the language model, or nothing else is left.
    """
    names = fused(work.config, work.stages)
    left = [name for name in names if name not in asking(work.config, work.stages)]
    if not 0 < len(left) < len(names):
        return None
    kept = [names.index(name) for name in left]
    weights = _fitted(work, _columns(work, stage, "valid")[:, kept], left)
    unseen = ~work.dataset.seen_items[work.questions("test").targets]
    return weights.combine(_columns(work, stage, "test")[:, kept], unseen)


def last_prompt(stages: Stages) -> str | None:
    """Prompt of the last stage that asks the language model; None where none does."""
    prompts = [s.prompt for s in stages.values() if s.kind.asks_language_model]
    return prompts[-1] if prompts else None


def _loaded_models(stages: Stages) -> set[str]:
    """An encoder from another run is one, and may have a title prior of its own."""
    return {"encoder"} if any("encoder" in s.load for s in stages.values()) else set()


def _giver(name: str, stage: Stage, stages: Stages) -> Stage | None:
    """The newest stage before ``stage`` whose score is the component ``name``; None where none is."""
    names = list(stages)
    before = [stages[n] for n in names[: names.index(stage.name)]]
    return next((s for s in reversed(before) if s.kind.component == name), None)


def _fitted(work: Work, scores_QF: FloatArray, names: Sequence[str]) -> FusionWeights:
    """Weights of the components ``names``, by their scores of the validation split."""
    c, valid = work.config.fusion, work.questions("valid")
    return fit_fusion(
        scores_QF,
        valid.labels,
        valid.histories.users,
        ~work.dataset.seen_items[valid.targets],
        components=names,
        pairwise=c.pairwise,
        seed=work.config.seed,
        worded=[name for name in worded(work.config, work.stages) if name in names],
        most=c.new_item_words,
    )


def _columns(work: Work, stage: Stage, split: str) -> FloatArray:
    """Scores of each component for every question of a split, [Q, F]."""
    key = (stage.name, split)
    if key not in work.cache:
        names = fused(work.config, work.stages)
        work.cache[key] = np.stack([_component(work, stage, name, split) for name in names], axis=1)
    found: FloatArray = work.cache[key]
    return found


def _component(work: Work, stage: Stage, name: str, split: str) -> FloatArray:
    """Scores of one summand: those of the newest stage that gives it, or asked for now."""
    giver = _giver(name, stage, work.stages)
    if giver is not None:
        return scores_of(work, giver)[split]
    return work.score(component(work.system, name, last_prompt(work.stages) or "text"), split)
