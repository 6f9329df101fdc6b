"""What a run would cost on this machine, from a few real steps of every stage on fresh parts."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sasrecllm.baselines.table import LISTED, shown_baselines
from sasrecllm.data.candidates import longest_lists, servable_likes, servable_rows
from sasrecllm.data.dataset import Dataset
from sasrecllm.evaluation.protocol import score_questions
from sasrecllm.machine.device import wait_for_device
from sasrecllm.machine.progress import Progress
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.language_model import is_own
from sasrecllm.runs.opening import Run
from sasrecllm.runs.scorers import component
from sasrecllm.runs.system import System
from sasrecllm.settings import LoopSettings
from sasrecllm.stages.ablations import ABLATIONS
from sasrecllm.stages.kind import Stage, Work
from sasrecllm.stages.list_budget import SHARE, prompt_budget
from sasrecllm.stages.list_parts import RERANKED
from sasrecllm.stages.own_language_model import language_model
from sasrecllm.stages.strategies import all_stages, asks_language_model, planned
from sasrecllm.training.batches import micro_batches, plan_epoch
from sasrecllm.training.loop import arithmetic, steps_in_all
from sasrecllm.training.task import Task
from sasrecllm.types import IntArray

STEPS = 3
"""Training steps that are tried, after what is computed for the first time."""
ENOUGH = 2.0
"""Seconds after which no further step or question is tried."""
FEW = 32
"""Questions of a split that are tried first."""
DOCUMENTS = 200
"""Documents that the offline language model is tried with, and with a quarter of them before."""
QUESTIONS = 256
"""Questions of a split that are tried."""
NEIGHBOURS = 8
"""Of them that stand together in the log, at least: they often share a history, which is read once."""
SHOWN = 400
"""Prompts of the lists that a run shows at its end, roughly: three users and a new item."""
TABLES = 6.0
"""Seconds of resampling, plots and pages, roughly."""


@dataclass(frozen=True)
class StageTime:
    """What a stage would take, in seconds.

    Args:
        step: one optimiser step.
        steps: of the whole stage, if it does not stop early.
        validation: one validation.
        validated: rows of it.
        validations: of the whole stage.
        copies: how many times it is trained (cross-fitting).
        other: what is no training.
        asks: it asks the language model.
        said: examples, steps and what learns, for people.
    """

    step: float = 0.0
    steps: int = 0
    validation: float = 0.0
    validated: int = 1
    validations: int = 0
    copies: int = 1
    other: float = 0.0
    asks: bool = False
    said: str = ""

    @property
    def row(self) -> float:
        """One question that is read without learning."""
        return self.validation / self.validated

    @property
    def once(self) -> float:
        """One training of it."""
        return self.step * self.steps + self.validation * self.validations

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.copies * self.once + self.other


@dataclass(frozen=True)
class RunTime:
    """What a run would take, in seconds.

    Args:
        stages: by name.
        document: both phases of the offline language model, one document in one epoch.
        documents: how many it would read, over all epochs.
        rows: how many rows each stage that asks the language model reads for the table.
        ablated: how many more its last stage reads for ablations.
        shown: and for the lists that a run shows at its end.
        listed: one item of a list that the language model orders, whose items share one beginning.
        served: how many are, for lists of the whole catalogue, were nothing learnt.
        earned: how many more are for what is learnt: lists may take a tenth of the run.
        drawn: how many are, for lists of drawn others.
        plain: judging everything that asks no language model, and what building the small model takes
            however many documents it reads.
    """

    stages: dict[str, StageTime] = field(default_factory=dict)
    document: float = 0.0
    documents: int = 0
    rows: int = 0
    ablated: int = 0
    shown: int = 0
    listed: float = 0.0
    served: int = 0
    earned: int = 0
    drawn: int = 0
    plain: float = 0.0

    @property
    def judging(self) -> float:
        """The evaluation."""
        asking = [s.row for s in self.stages.values() if s.asks]
        prompts = self.rows * sum(asking) + (self.ablated + self.shown) * sum(asking[-1:])
        return self.plain + prompts + self.listed * (self.served + self.earned + self.drawn)

    @property
    def seconds(self) -> float:
        """The whole run."""
        training = sum(stage.seconds for stage in self.stages.values())
        return training + self.document * self.documents + self.judging


def run_time(run: Run, dataset: Dataset, *, language: bool = True) -> RunTime:
    """Time a few steps of each stage; everything but the data is thrown away.

    Args:
        language: try what asks the language model, too; else it is left out.
    """
    language = language and asks_language_model(run.config)
    with tempfile.TemporaryDirectory() as scratch:
        trial = Run(RunFolder(Path(scratch)), run.config, run.command, Progress(quiet=True))
        built, begun = _built(trial, dataset) if language and is_own(run.config) else (0.0, 0.0)
        system = System.new(trial.folder, run.config, dataset, run.config.device)
        work = Work(trial, dataset, system, all_stages(run.config))
        asked = [s for s in work.stages.values() if language or not s.kind.asks_language_model]
        found = RunTime({s.name: _stage(work, s) for s in asked}, document=built, plain=begun)
        own = run.config.llm.offline
        if built:
            epochs = max(own.titles_loop.epochs, own.answers_loop.epochs)
            found = replace(found, documents=own.documents * epochs)
        return _judged(work, found, language)


def _stage(work: Work, stage: Stage) -> StageTime:
    other, found = stage.kind.seconds(work, stage), stage.kind.task(work, stage)
    if found is None or not found[2]:
        asks = stage.kind.asks_language_model
        return StageTime(validation=_asked(work, stage) if asks else 0.0, other=other, asks=asks)
    task, settings, copies = found
    step, validation = tried(task, settings, work.system.device)
    learns = sum(p.numel() for p in task.trainable().values())
    steps = steps_in_all(len(task.lengths), settings)
    return StageTime(
        step,
        steps,
        validation,
        max(1, task.n_validation),
        min(steps, settings.epochs * settings.evals_per_epoch),
        copies,
        other,
        stage.kind.asks_language_model,
        f"{len(task.lengths):,} examples, at most {steps:,} steps of {settings.batch_size}"
        f" ({steps * settings.batch_size / max(1, len(task.lengths)):.2f} epochs), validation on"
        f" {task.n_validation:,} rows, {learns:,} parameters learn",
    )


def tried(task: Task, settings: LoopSettings, device: str = "cpu") -> tuple[float, float]:
    """Seconds of one step of middling length, and of one validation.

    As many steps and questions are tried as a few seconds allow, one step and a few questions at least.
    """
    task.learn()
    # The batches of the first epoch: what shares a beginning stands together in them.
    batches = plan_epoch(task.lengths, settings.batch_size, settings.seed, 0, task.prefix_ids)
    batches.sort(key=lambda batch: float(task.lengths[batch].mean()))
    middle = batches[len(batches) // 2 :][:STEPS]
    # What is made once, kernels and memory, may take longer than the first part of a slow step itself.
    _step(task, middle[0], settings, device, enough=0.0)
    took: list[float] = []
    for batch in middle:
        if sum(took) > ENOUGH:
            break
        took.append(_step(task, batch, settings, device))
    step = float(np.median(took))  # one of them may have had to wait for another process
    task.eval()
    with torch.no_grad():
        row = _row(task.validation_scores, task.n_validation, task.beside)
    return step, row * task.n_validation


def _asked(work: Work, stage: Stage) -> float:
    """Seconds of one question of a stage that nothing learns in."""
    scorer = stage.kind.scorer(work.system, stage, work.stages)
    asked = work.questions("test")
    return _row(lambda few: score_questions(scorer, asked.take(few)), len(asked))


def _row(read: Callable[[IntArray], object], rows: int, beside: int = 1) -> float:
    """Seconds of one of ``rows``, by a few of them, by more where those take little."""
    beside = max(beside, NEIGHBOURS)
    row = 0.0
    read(_spread(rows, 1, beside))  # makes what is made once
    for count in (FEW, QUESTIONS):
        if row * QUESTIONS < ENOUGH:
            asked = _spread(rows, count, beside)
            started = time.monotonic()
            read(asked)
            row = (time.monotonic() - started) / max(1, len(asked))
    return row


def _step(
    task: Task, batch: IntArray, settings: LoopSettings, device: str, enough: float = ENOUGH
) -> float:
    """Seconds of one step, reckoned from its first micro-batches where all take more than enough."""
    parts = micro_batches(batch, task.lengths, settings.accumulate, settings.micro_tokens)
    spent, done, kind = 0.0, 0, device.partition(":")[0]
    wait_for_device(kind)
    started = time.monotonic()
    while done < len(parts) and spent <= enough:
        with arithmetic(task, settings, kind):
            loss = task(parts[done])
        loss.backward()
        wait_for_device(kind)
        spent, done = time.monotonic() - started, done + 1
    return spent / done * len(parts)


def _spread(rows: int, count: int, beside: int = 1) -> IntArray:
    """Places of about ``count`` of ``rows``, in blocks of ``beside`` neighbours, evenly spread."""
    blocks = -(-rows // beside)
    chosen = np.unique(np.linspace(0, blocks - 1, min(-(-count // beside), blocks)).astype(np.int64))
    at = (chosen[:, None] * beside + np.arange(beside)).reshape(-1)
    return at[at < rows]


def _built(trial: Run, dataset: Dataset) -> tuple[float, float]:
    """Build the small model with a handful of documents: seconds of one of them, and of all else.

    A vocabulary takes as long for few documents as for many, so two counts tell the two apart.
    """
    count = min(DOCUMENTS, trial.config.llm.offline.documents)
    few = max(1, count // 4)
    took = []
    before = [RunFolder(trial.folder.path / name) for name in ("first", "second")]
    # The first makes what is made once; the last is what the trial goes on with.
    for folder, documents in zip((*before, trial.folder), (few, few, count), strict=True):
        started = time.monotonic()
        _build(replace(trial, folder=folder), dataset, documents)
        took.append(time.monotonic() - started)
    _, small, large = took
    each = (large - small) / (count - few) if large > small and count > few else large / count
    return each, max(0.0, large - count * each)


def _build(trial: Run, dataset: Dataset, documents: int) -> None:
    full = trial.config.llm.offline
    once = {"epochs": 1, "evals_per_epoch": 1}
    few = full.model_copy(
        update={
            "documents": documents,
            "titles_loop": full.titles_loop.model_copy(update=once),
            "answers_loop": full.answers_loop.model_copy(update=once),
        }
    )
    llm = trial.config.llm.model_copy(update={"offline": few})
    language_model(replace(trial, config=trial.config.model_copy(update={"llm": llm})), dataset)


def _judged(work: Work, found: RunTime, language: bool) -> RunTime:
    """With what judging would take."""
    c, data, plain = work.config, work.dataset, found.plain + TABLES
    evaluation, asked = c.evaluation, len(work.questions("valid")) + len(work.questions("test"))
    few = work.questions("test").take(np.arange(min(QUESTIONS, len(work.questions("test")))))
    lists = evaluation.ranking.when != "never"
    rows = servable_rows(data, "test")[0]
    users = min(evaluation.ranking.users, len(rows)) if lists else 0
    whole = np.tile(np.arange(data.n_items), (min(8, max(1, len(rows))), 1))
    for name in dict.fromkeys((*shown_baselines(data.implicit, evaluation.baselines), *LISTED)):
        scorer: Any = component(work.system, name, "text")
        started = time.monotonic()
        score_questions(scorer, few)
        made = time.monotonic()
        score_questions(scorer, few)
        again = time.monotonic() - made
        plain += (made - started) - again + again * asked / max(1, len(few))
        if name in LISTED and users:
            started = time.monotonic()
            scorer.score(data.histories(rows[: len(whole)]), whole)
            plain += (time.monotonic() - started) / len(whole) * users
    if users and c.lists.enabled:  # the fusion asks every channel
        weigh = [name for name, stage in work.stages.items() if "list_fusion" in stage.train]
        plain += sum(found.stages[name].other / 4 for name in weigh)
    if not language:
        return replace(found, plain=plain)
    ablated = evaluation.ablations * (1 + len(ABLATIONS)) * len(work.questions("test"))
    found = replace(found, plain=plain, rows=asked, ablated=ablated, shown=SHOWN)
    return _with_lists(work, found, rows[len(rows) // 2 :][:1]) if users else found


def _with_lists(work: Work, found: RunTime, row: IntArray) -> RunTime:
    """With what the language model's lists would take, timed on one list of the test ``row``."""
    c, data, stages = work.config, work.dataset, planned(work.config)
    asking = [s for s in stages.values() if s.kind.prompt(s, stages, c) is not None]
    text = next(s for s in asking if s.kind.asks_language_model)
    items = np.arange(min(c.lists.best, data.n_items))[None, :]
    scorer = text.kind.scorer(work.system, text, stages)
    started = time.monotonic()
    scorer.score(data.histories(row), items)
    listed = (time.monotonic() - started) / items.size
    budget = prompt_budget(c, data, stages)
    unlearnt = min(budget, int(SHARE * found.rows * sum(s.asks for s in found.stages.values())))
    served, everything = (
        prompts + (min(prompts // 2, RERANKED * c.lists.best) if c.lists.rerank else 0)
        for prompts in (budget if is_own(c) else unlearnt, budget)
    )
    others = longest_lists(data, "test", c.evaluation.ranking.negatives)
    of_others = c.evaluation.ranking.when == "always" or data.implicit
    lists = len(servable_likes(data, "test")) if others and of_others else 0
    drawn = lists * (1 + others) * len(asking)
    return replace(found, listed=listed, served=served, earned=everything - served, drawn=drawn)
