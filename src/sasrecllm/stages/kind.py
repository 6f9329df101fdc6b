"""What a stage of training is, and what its kind must be able to do.

A kind of your own is a :class:`Kind` (an object or a class) named ``package.module:NAME`` as a stage's
``task``; ``stages/title_prior.py`` is the shortest of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sasrecllm.data.dataset import Dataset
from sasrecllm.errors import ConfigError, did_you_mean
from sasrecllm.evaluation.ablated_scorers import Change
from sasrecllm.evaluation.protocol import score_questions
from sasrecllm.names import refuse_folder_name
from sasrecllm.runs.folder import StageFolder, folds_beside, run_before
from sasrecllm.runs.opening import Run
from sasrecllm.runs.parts import part_of
from sasrecllm.runs.system import System
from sasrecllm.settings import Config, Loop, LoopSettings
from sasrecllm.stages.replay import steps_of_update
from sasrecllm.training.loop import fit
from sasrecllm.training.task import Task
from sasrecllm.types import FloatArray, Questions, Scorer


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of training.

    Args:
        name: also the name of its folder.
        kind: what is done (``task`` in YAML).
        train: the parts that learn; every other part is frozen, bit for bit, and in eval mode.
        prompt: ``text`` (no slots) or ``soft`` (user and item slots), for the language model.
        vectors: ``crossfit`` (soft tokens of training rows come from encoders that never saw their
            user) or ``encoder`` (the live encoder; needed where the encoder learns).
        load: part -> run folder it is taken from, for plug-and-play; absent parts come from the
            stages before, or start fresh where none trained them.
        loop: settings of the training loop that differ from the configuration's.
        row: name of its line in the results table; ``{encoder}`` and ``{users}`` in a shipped one stand
            for the encoder, and for the share of the users where it is not all (:mod:`.strategies`).
    """

    name: str
    kind: Kind
    train: tuple[str, ...]
    prompt: str = "text"
    vectors: str = "crossfit"
    load: Mapping[str, str] = field(default_factory=dict)
    loop: Mapping[str, Any] = field(default_factory=dict)
    row: str = ""

    def __post_init__(self) -> None:
        refuse_folder_name("the name of a stage", str(self.name))
        _one_of(self, "prompt", self.prompt, ("text", "soft"))
        _one_of(self, "vectors", self.vectors, ("crossfit", "encoder"))
        for part in (*self.train, *self.load):
            part_of(part)
        if self.kind.may_train and set(self.train) not in self.kind.may_train:
            allowed = "; ".join("[" + ", ".join(sorted(s)) + "]" for s in self.kind.may_train)
            raise ConfigError(
                f"stage {self.name!r}: train is {list(self.train)} for task {self.kind.name!r};"
                f" allowed: {allowed}",
                "change the stage's train or its task",
            )
        if "mapper" in self.train and self.prompt != "soft":
            raise ConfigError(
                f"stage {self.name!r}: train has mapper but prompt is 'text', which has no slots",
                "set the stage's prompt to soft",
            )
        self.kind.check(self)

    @property
    def reads_crossfit(self) -> bool:
        """Whether its soft tokens of training rows come from cross-fitted encoders."""
        soft = self.kind.asks_language_model and self.prompt == "soft"
        return soft and self.vectors == "crossfit"


Stages = Mapping[str, Stage]
"""Name -> stage of a strategy, in order."""


def _one_of(stage: Stage, key: str, got: str, allowed: tuple[str, ...]) -> None:
    if got not in allowed:
        raise ConfigError(
            f"stage {stage.name!r}: {key} is {got!r}; allowed: {', '.join(allowed)}"
            + did_you_mean(got, allowed),
            "use one of these",
        )


@dataclass
class Work:
    """A run whose stages are being trained: what a kind gets to work with.

    Args:
        system: the parts in memory, as the stages before left them.
        stages: all of the strategy.
        splits: what a finished stage scores.
    """

    run: Run
    dataset: Dataset
    system: System
    stages: Stages
    splits: tuple[str, ...] = ("valid", "test")
    cache: dict[Any, Any] = field(default_factory=dict)
    _questions: dict[str, Questions] = field(default_factory=dict)

    @property
    def config(self) -> Config:
        """The run's settings."""
        return self.run.config

    def questions(self, split: str) -> Questions:
        """The questions of ``valid`` or ``test``."""
        if split not in self._questions:
            self._questions[split] = self.dataset.questions(split)
        return self._questions[split]

    def folder(self, stage: Stage) -> StageFolder:
        """Where a stage lies."""
        return next(f for f, s in self.run.folder.of_stages(self.stages) if s.name == stage.name)

    def before(self, stage: Stage) -> StageFolder | None:
        """Where the same stage of the run before lies; None where this run is no update."""
        there = run_before(self.config)
        return None if there is None else there.stage(self.folder(stage).number, stage.name)

    def former_parts(self, stage: Stage) -> dict[str, Path]:
        """Part -> its folder, of what an update's stage trains on from the run before; fold encoders
        too.  Empty where that run has not this stage, or this one begins by itself."""
        there = self.before(stage)
        if there is None or not stage.kind.goes_on:
            return {}
        found = {name: there.part(name) for name in stage.train if part_of(name).begin is not None}
        if not found or not all(path.is_dir() for path in found.values()):
            return {}
        folds = folds_beside(found["encoder"]) if "encoder" in found else []
        return found | {path.name: path for path in folds}

    def loop(self, stage: Stage, base: Loop) -> LoopSettings:
        """Loop settings of a stage: the section's, with the stage's own on top; few steps where it
        goes on from the run before.

        Raises:
            ConfigError: the stage's own are wrong.
        """
        settings, update = loop_settings(self.config, base, stage.loop), self.config.update
        if not self.former_parts(stage):
            return settings
        few = {"epochs": min(update.epochs, settings.epochs), "lr": update.lr * settings.lr}
        few |= {"max_steps": steps_of_update(self.dataset, self.config, settings.max_steps)}
        return settings.model_copy(update=few | {"min_lr": min(settings.min_lr, few["lr"])})

    def fit(self, task: Task, settings: LoopSettings, folder: StageFolder) -> dict[str, Any]:
        """Train ``task`` with the checkpoints of ``folder``; says how it ended."""
        device = self.system.device
        result = fit(task, settings, self.run.tracking.store(folder), self.run.progress, device)
        return {
            "steps": result.steps,
            "best_step": result.best_step,
            "best": result.best,
            "stopped_early": result.stopped_early,
            "trained_parameters": result.trained_parameters,
        }

    def score(self, scorer: Scorer, split: str) -> FloatArray:
        """The scorer's score of every question of a split."""
        bar = self.run.progress.bar(f"scoring {scorer.name}")
        return score_questions(scorer, self.questions(split), progress=bar)


def loop_settings(config: Config, base: Loop, changes: Mapping[str, Any] | None = None) -> LoopSettings:
    """Loop settings of a stage: the section's, with the stage's own on top.

    Raises:
        ConfigError: the stage's own are wrong.
    """
    try:
        chosen = Loop.model_validate({**base.model_dump(), **(changes or {})})
    except ValueError as error:
        raise ConfigError(f"strategy: a stage's loop is wrong: {error}", "correct it") from None
    return chosen.seeded(config.seed)


@dataclass
class Spent:
    """What the stages so far cost.

    Args:
        language: seconds of building the language model.
        own: seconds of this stage.
        everything: seconds of all stages up to this one.
        encoder: seconds of the stages that gave the encoder.
        per_row: component -> seconds that a row takes of the newest stage that gives it.
    """

    language: float
    own: float = 0.0
    everything: float = 0.0
    encoder: float = 0.0
    per_row: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """What a row of the table cost: seconds of everything it needs, parameters, seconds a row."""

    seconds: float
    parameters: int
    seconds_per_row: float


class Kind:
    """What is done in a stage; one object serves all stages of its kind."""

    name: str = ""
    """As ``task`` has it."""
    may_train: tuple[frozenset[str], ...] = ()
    """Sets of parts that may learn; empty: any."""
    component: str = ""
    """What a fusion calls this kind's score; empty where a fusion does not use it."""
    has_row: bool = True
    """Whether it ends with a score of P(like), and so has a row in the table; else it serves lists."""
    goes_on: bool = True
    """Whether an update's stage begins with the parts of the same stage of the run before; else with
    what the stages before it have just trained."""
    asks_language_model: bool = False
    reads_words: bool = False
    """Whether its component knows an item without training rows by its words."""
    trains_folds: bool = False
    """Whether it trains the fold encoders that go with the encoder."""
    ranks_catalogue: bool = False
    """Whether its score of a whole catalogue is cheap; else it reranks the encoder's best."""

    def check(self, stage: Stage) -> None:
        """Refuse what this kind cannot do.

        Raises:
            ConfigError: with what is allowed.
        """

    def prompt(self, stage: Stage, stages: Stages, config: Config) -> str | None:
        """The prompt that its scores depend on; None where no language model is asked."""
        return stage.prompt if self.asks_language_model else None

    def fit(self, work: Work, stage: Stage, folder: StageFolder) -> dict[str, Any]:
        """Train the stage's parts in ``work.system``; returns what is kept of how it went.

        Called by every process; an interrupted stage is called again, and goes on from its checkpoints.
        """
        raise NotImplementedError

    def task(self, work: Work, stage: Stage) -> tuple[Task, LoopSettings, int] | None:
        """What would be trained, how, and how many times, for an estimate; None where it is nothing."""
        return None

    def made_of(self, work: Work, stage: Stage) -> dict[str, Any] | None:
        """All that fitting depends on beside the data, so that what is alike is not fitted twice (a
        quick run's, :mod:`.quick`); None where it is not said."""
        return None

    def seconds(self, work: Work, stage: Stage) -> float:
        """What fitting costs beside :meth:`task`, for an estimate; tried out where it must be."""
        return 0.0

    def scorer(
        self, system: System, stage: Stage, stages: Stages, change: Change | None = None
    ) -> Scorer:
        """The scorer that the stage ends with, of the parts in ``system``.

        Args:
            change: what an ablation takes away.
        """
        raise NotImplementedError

    def scores(self, work: Work, stage: Stage, split: str) -> FloatArray:
        """Scores of a split by the parts as the stage leaves them."""
        return work.score(self.scorer(work.system, stage, work.stages), split)

    def cost(self, stage: Stage, spent: Spent, per_row: float, parameters: Mapping[str, int]) -> Cost:
        """What the stage's row of the table cost.

        Args:
            spent: up to and with this stage; what only later rows need to know is added to it.
            per_row: seconds that scoring a row took.
            parameters: of each part.
        """
        return Cost(spent.language + spent.everything, sum(parameters.values()), per_row)
