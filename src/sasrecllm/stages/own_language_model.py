"""The language model that a run builds itself, before any stage is trained."""

from __future__ import annotations

import shutil
import time

from sasrecllm.checkpoint import commit_folder, is_whole, write_json
from sasrecllm.data.dataset import Dataset
from sasrecllm.llm.loading import save_backbone
from sasrecllm.machine.device import pick_device
from sasrecllm.machine.distributed import is_main_process, wait_for_all
from sasrecllm.runs.folder import RunFolder, run_before
from sasrecllm.runs.language_model import is_own
from sasrecllm.runs.loaded import copy_folder
from sasrecllm.runs.opening import Run
from sasrecllm.runs.templates import stored_templates
from sasrecllm.stages.strategies import asks_language_model, planned
from sasrecllm.stages.user_partition import holdout_share, text_questions
from sasrecllm.training.language import pretrain_offline


def language_model(run: Run, dataset: Dataset) -> None:
    """Build and pretrain the offline language model into the run, where the run needs one.

    It reads the training split's histories, less those of ``mapper.llm_holdout_users``, and the
    catalogue's titles, nothing else of validation or test.
    """
    if not is_own(run.config) or not asks_language_model(run.config):
        return
    if not is_whole(run.folder.language_model):
        before = run_before(run.config)
        if before is None:
            _pretrain(run, dataset)
        else:
            _take_over(run, before)
    wait_for_all()


def _take_over(run: Run, before: RunFolder) -> None:
    """An update goes on with the language model of the run before it."""
    if is_main_process():
        copy_folder(before.language_model, run.folder.language_model)
        if before.language_seconds.is_file():  # what it cost, it cost
            shutil.copyfile(before.language_seconds, run.folder.language_seconds)


def _pretrain(run: Run, dataset: Dataset) -> None:
    c, folder, phases = run.config, run.folder.language_model, ("titles", "answers")
    started = time.monotonic() - sum(run.folder.language_stage(name).seconds() for name in phases)
    templates = stored_templates(run.folder, c)
    backbone = pretrain_offline(
        dataset.catalog.titles,
        dataset.words,
        text_questions(dataset, holdout_share(c, planned(c)), c.seed),
        text_prompt=templates["text"],
        soft_prompt=templates["soft"],
        settings=c.llm.offline,
        title_tokens=c.llm.title_tokens,
        seed=c.seed,
        stores=[run.tracking.store(run.folder.language_stage(name)) for name in phases],
        progress=run.progress,
        device=pick_device(c.device),
    )
    if is_main_process():
        shutil.rmtree(folder, ignore_errors=True)
        write_json(run.folder.language_seconds, {"seconds": time.monotonic() - started})
        commit_folder(folder, lambda temporary: save_backbone(backbone, temporary))
