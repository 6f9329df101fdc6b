"""``--dry-run``: what a run would cost here, from a few real steps of every stage."""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from sasrecllm.data.dataset import Dataset
from sasrecllm.machine.progress import Progress, readable_seconds
from sasrecllm.pipeline.preflight import check_language_model, check_prompts
from sasrecllm.pipeline.prepare import check_settings, prepare
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.language_model import is_own
from sasrecllm.runs.opening import Run
from sasrecllm.runs.system import System
from sasrecllm.settings import LoopSettings, Offline
from sasrecllm.stages.kind import Work
from sasrecllm.stages.own_language_model import language_model
from sasrecllm.stages.plan import all_stages, asks_language_model
from sasrecllm.training.loop import Task, steps_in_all

STEPS = 3


def estimate(run: Run) -> float:
    """Prepare the data, time a few steps of each stage on fresh parts, and say the sum in seconds.

    The data stays in the run folder for the real run; everything else is thrown away.  Early stopping
    can only make a stage shorter than said.
    """
    check_settings(run)
    check_language_model(run)
    dataset = prepare(run)
    check_prompts(run, dataset)
    with tempfile.TemporaryDirectory() as scratch:
        trial = Run(RunFolder(Path(scratch)), run.config, run.command, Progress(quiet=True))
        total = 0.0
        if is_own(run.config) and asks_language_model(run.config):
            total += _language_seconds(run, trial, dataset)
        system = System.new(trial.folder, run.config, dataset, run.config.device)
        work = Work(trial, dataset, system, all_stages(run.config))
        for stage in work.stages.values():
            if tried := stage.kind.seconds(work, stage):
                run.progress.line(f"stage {stage.name}: about {readable_seconds(tried)}")
            total, found = total + tried, stage.kind.task(work, stage)
            if found is None or not found[2]:
                continue
            task, settings, copies = found
            seconds = copies * stage_seconds(task, settings)
            total += seconds
            run.progress.line(
                f"stage {stage.name}: {len(task.lengths)} examples, at most {settings.epochs} epochs,"
                f" {sum(p.numel() for p in task.trainable().values()):,} parameters learn,"
                f" about {readable_seconds(seconds)}"
            )
    run.progress.line(f"in all about {readable_seconds(total)}, evaluation not counted")
    return total


def stage_seconds(task: Task, settings: LoopSettings) -> float:
    """Seconds of a whole stage, from ``STEPS`` training steps and one share of the validation."""
    task.learn()
    size = settings.batch_size
    order = np.argsort(task.lengths, kind="stable")
    middle = order[len(order) // 2 :][: size * STEPS]
    started = time.monotonic()
    for start in range(0, len(middle), size):
        task(middle[start : start + size]).backward()
    step = (time.monotonic() - started) / max(1, math.ceil(len(middle) / size))
    asked = np.linspace(0, task.n_validation - 1, min(256, task.n_validation)).astype(np.int64)
    task.eval()
    started = time.monotonic()
    with torch.no_grad():
        task.validation_scores(np.unique(asked))
    validation = (time.monotonic() - started) / max(1, len(np.unique(asked))) * task.n_validation
    evaluations = validation * settings.epochs * settings.evals_per_epoch
    return step * steps_in_all(len(task.lengths), settings) + evaluations


def _language_seconds(run: Run, trial: Run, dataset: Dataset) -> float:
    """Build the small model with a handful of documents, and scale that up."""
    full: Offline = run.config.llm.offline
    once = {"epochs": 1, "evals_per_epoch": 1}
    few = full.model_copy(
        update={
            "documents": 200,
            "titles_loop": full.titles_loop.model_copy(update=once),
            "answers_loop": full.answers_loop.model_copy(update=once),
        }
    )
    llm = run.config.llm.model_copy(update={"offline": few})
    short = Run(trial.folder, run.config.model_copy(update={"llm": llm}), run.command, trial.progress)
    epochs = max(full.titles_loop.epochs, full.answers_loop.epochs)
    started = time.monotonic()
    language_model(short, dataset)
    seconds = (time.monotonic() - started) * full.documents * epochs / 200
    run.progress.line(
        f"language model: {full.documents} documents, {epochs} epochs,"
        f" about {readable_seconds(seconds)}"
    )
    return seconds
