"""Data and language model: what must stand before a stage can train."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sasrecllm.baselines.table import BASELINES
from sasrecllm.baselines.user_regression_terms import REGRESSION_TERMS
from sasrecllm.checkpoint import CheckpointFolder, commit_folder, is_whole, read_json, write_json
from sasrecllm.data.dataset import Dataset
from sasrecllm.data.ingest.quality import WARNING, refuse_untrainable
from sasrecllm.encoders.table import ENCODERS
from sasrecllm.errors import ConfigError, did_you_mean
from sasrecllm.machine.device import pick_device
from sasrecllm.machine.distributed import is_main_process, wait_for_all
from sasrecllm.plugins import resolve
from sasrecllm.prompts.template import Template
from sasrecllm.runs.folder import Run, claim, first_difference, is_trained
from sasrecllm.runs.scores import LANGUAGE_SECONDS
from sasrecllm.runs.stored import loaded_part, stored_data
from sasrecllm.runs.templates import stored_templates
from sasrecllm.stages.user_partition import text_questions

SETTINGS = "settings.json"
"""In the folder of prepared data: what it was prepared with."""


def check_settings(run: Run) -> None:
    """Refuse at once what a stage would only meet after minutes of training.

    Raises:
        ConfigError: an unknown encoder, template, component or stage.
        CheckpointError: a part that a stage loads is not there.
    """
    c = run.config
    resolve(c.encoder.kind, ENCODERS, "encoder.kind")
    asked_templates(run)
    baselines = (*BASELINES, *REGRESSION_TERMS)
    _refuse_unknown("fusion.components", c.fusion.components, ("llm", "encoder", *baselines))
    _refuse_unknown("evaluation.baselines", c.evaluation.baselines, baselines)
    for number, stage in enumerate(run.stages.values(), 1):
        for part in stage.load:
            loaded_part(run.folder, number, stage, part)


def asked_templates(run: Run) -> dict[str, Template]:
    """``text`` and ``soft`` -> template, before the folder is claimed.

    Where nothing was trained yet, copies that lie there may be of other settings.
    """
    return stored_templates(run.folder if is_trained(run.folder) else None, run.config)


def _refuse_unknown(key: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{key} has {name!r}; allowed: {', '.join(known)}{did_you_mean(name, known)}",
                "rename or remove it",
            )


def prepare(run: Run) -> Dataset:
    """Read, check, order and split the data into ``data/``.

    Raises:
        DataError: the data is wrong, or could not be trained on; nothing is left in ``data/``.
    """
    folder = run.folder / "data"
    if is_main_process():
        claim(run)
    if is_main_process() and not (is_whole(folder) and _is_asked_for(run, folder)):
        (run.folder / "quarantine.jsonl").unlink(missing_ok=True)  # of other settings, perhaps
        dataset, truth = _read(run)
        _say(run, dataset)
        refuse_untrainable(dataset, run.config.data.split_args)

        def write(temporary: Path) -> None:
            dataset.save(temporary)
            write_json(temporary / SETTINGS, _data_settings(run))
            if truth:
                write_json(temporary / "truth.json", truth)

        shutil.rmtree(folder, ignore_errors=True)
        commit_folder(folder, write)
    wait_for_all()
    dataset = stored_data(run.folder)
    _check_attributes(run, dataset)
    return dataset


def _say(run: Run, dataset: Dataset) -> None:
    """Counts, notes and warnings, to the terminal and to the log."""
    counts = {k: v["rows"] for k, v in dataset.summary()["splits"].items()}
    run.progress.line(f"data: {dataset.n_users} users, {dataset.n_items} items, rows {counts}")
    for note in dataset.notes:
        if note.startswith(WARNING):
            run.progress.warning(note.removeprefix(WARNING))
        else:
            run.progress.line(f"data: {note}")


def _data_settings(run: Run) -> dict[str, Any]:
    """What the prepared data depends on."""
    c = run.config.data
    seed = run.config.seed if c.seed is None else c.seed
    seen = run.config.recommend.seen
    return {"data": c.model_dump(exclude={"seed"}), "seed": seed, "recommend": {"seen": seen}}


def _is_asked_for(run: Run, folder: Path) -> bool:
    """Whether whole data was prepared with these settings; where anything was trained on it, it was.

    A folder in which nothing was trained may have been claimed with other settings before.
    """
    if is_trained(run.folder):
        return True
    path = folder / SETTINGS
    there = read_json(path) if path.is_file() else {}
    difference = first_difference(there, _data_settings(run))
    if difference:
        run.progress.line(f"data: prepared anew, since {difference}")
    return not difference


def _read(run: Run) -> tuple[Dataset, dict[str, Any]]:
    """The data set of the configured source, and of the known world what its rows really are."""
    from sasrecllm.data.ingest.sources import load_tables
    from sasrecllm.data.prepare import prepare as prepare_tables
    from sasrecllm.pipeline.world import truth_facts, world_tables

    c = run.config.data
    seed = run.config.seed if c.seed is None else c.seed
    world = None
    if c.source == "known-world":
        world, made = world_tables({"seed": seed} | c.world)
        tables = [made]
    else:
        run.progress.start()
        tables = [
            load_tables(
                c.source,
                path=c.path,
                items_path=c.items_path,
                columns=c.columns,
                order=c.order,
                words=c.words,
                report=run.progress.step,
            )
        ]
    dataset = prepare_tables(
        tables.pop(),  # nobody else holds them: they go as soon as they are checked
        feedback=c.feedback,
        threshold=c.threshold,
        split=c.split,
        split_args=c.split_args,
        repeats=c.repeats,
        negatives=c.negatives,
        seen=run.config.recommend.seen,
        cold_items=c.cold_items,
        cold_users=c.cold_users,
        seed=seed,
        on_bad_rows=c.on_bad_rows,
        quarantine_path=run.folder / "quarantine.jsonl",
    )
    # The truth of a sampled negative was never drawn, so implicit feedback has no ceiling.
    return dataset, {} if world is None or dataset.implicit else truth_facts(world, dataset)


def _check_attributes(run: Run, dataset: Dataset) -> None:
    known = dataset.catalog.attributes
    for name in run.config.item_features.attributes:
        if name not in known:
            left_out = [n for n in dataset.notes if "left out" in n and f" {name} (" in n]
            raise ConfigError(
                f"item_features.attributes has {name!r}; the items table has:"
                f" {', '.join(known) or 'no further columns'}"
                + ("; ".join(["", *left_out]) or did_you_mean(name, known)),
                "correct the name or leave it out; such columns stand in the file of the items"
                " (data.items_path), as text or lists of words",
            )


def language_model(run: Run, dataset: Dataset) -> str:
    """Build and pretrain the offline language model into ``llm/``; returns what to load.

    It reads the training split's histories, less those of fresh users, and the catalogue's titles,
    nothing else of validation or test.
    """
    c = run.config.llm
    if c.backbone != "offline":
        return c.backbone
    folder = run.folder / "llm"
    if run.uses_language_model and not is_whole(folder):
        from sasrecllm.training.language import pretrain_offline

        started = time.monotonic()
        templates = stored_templates(run.folder, run.config)
        folders = [run.folder / "stages" / f"0-language-{phase}" for phase in ("titles", "answers")]
        backbone = pretrain_offline(
            dataset.catalog.titles,
            dataset.words,
            text_questions(run, dataset),
            text_prompt=templates["text"],
            soft_prompt=templates["soft"],
            settings=c.offline,
            title_tokens=c.title_tokens,
            seed=run.config.seed,
            stores=(
                CheckpointFolder(folders[0] / "checkpoints"),
                CheckpointFolder(folders[1] / "checkpoints"),
            ),
            progress=run.progress,
            device=pick_device(run.config.device),
        )
        if is_main_process():
            from sasrecllm.llm.loading import save_backbone

            shutil.rmtree(folder, ignore_errors=True)
            write_json(run.folder / LANGUAGE_SECONDS, {"seconds": time.monotonic() - started})
            commit_folder(folder, lambda temporary: save_backbone(backbone, temporary))
        wait_for_all()
    return str(folder)
