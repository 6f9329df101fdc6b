"""Data and language model: what must stand before a stage can train."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from sasrecllm.checkpoint import commit_folder, is_whole, read_json, write_json
from sasrecllm.data.dataset import Dataset
from sasrecllm.data.ingest.quality import refuse_unknown_attributes, refuse_untrainable
from sasrecllm.data.interactions import Tables
from sasrecllm.data.item_vectors import keep_vectors
from sasrecllm.data.truth import Truth
from sasrecllm.errors import ConfigError
from sasrecllm.evaluation.ceiling import bayes_ceiling
from sasrecllm.machine.distributed import is_main_process, wait_for_all
from sasrecllm.prompts.template import Template
from sasrecllm.reports.data_card import say_card
from sasrecllm.runs.folder import DATA_SETTINGS, TRUTH, RunFolder, folds_beside, run_before
from sasrecllm.runs.forgotten import forgotten_in
from sasrecllm.runs.loaded import foreign_part, loaded_part
from sasrecllm.runs.opening import Run, claim, first_difference
from sasrecllm.runs.stored import stored_data
from sasrecllm.runs.system import System
from sasrecllm.runs.templates import keep_templates, stored_templates
from sasrecllm.stages.advice import run_card
from sasrecllm.stages.names import check_names
from sasrecllm.stages.settle import crossfitted_from
from sasrecllm.stages.strategies import all_stages, asks_language_model, planned
from sasrecllm.stages.user_partition import held_out_users, holdout_share


def check_settings(run: Run) -> None:
    """Refuse at once what a stage would only meet after minutes of training.

    Raises:
        ConfigError: an unknown encoder, template, component or stage; or a loaded encoder without the
            fold encoders that a stage needs.
        CheckpointError: a part that a stage loads is not there.
    """
    check_names(run.config)
    asked_templates(run)
    before = run_before(run.config)
    for folder, stage in run.folder.of_stages(all_stages(run.config)):
        for part, place in stage.load.items():
            loaded_part(folder, part, place, before)
    _refuse_without_folds(run)


def _refuse_without_folds(run: Run) -> None:
    """Refuse to teach by cross-fitted soft tokens where the loaded encoder has no fold encoders."""
    for stage, place in crossfitted_from(run):
        if not folds_beside(foreign_part("encoder", place)):
            raise ConfigError(
                f"stage {stage.name!r}: vectors is 'crossfit', but the encoder of {place} has no fold"
                " encoders, so the soft tokens would be of users whom it was trained on",
                "load one of a run with a stage whose prompt is soft and encoder.folds of 2 or more; or"
                " learn without: set the stage's vectors to encoder",
            )


def asked_templates(run: Run) -> dict[str, Template]:
    """``text`` and ``soft`` -> template, before the folder is claimed.

    Where nothing was trained yet, copies that lie there may be of other settings.
    """
    before = run_before(run.config) if asks_language_model(run.config) else None
    return stored_templates(run.folder if run.folder.is_trained() else before, run.config)


def prepare(run: Run) -> Dataset:
    """Read, check, order and split the data into ``data/``.

    Raises:
        DataError: the data is wrong, or could not be trained on; nothing is left in ``data/``.
    """
    folder = run.folder.data
    if is_main_process():
        claim_folder(run)
    stands = not is_main_process() or (is_whole(folder) and _is_asked_for(run, folder))
    if not stands:
        run.folder.quarantine.unlink(missing_ok=True)  # of other settings, perhaps
        dataset, truth = _read(run)
        say_card(run.progress, run_card(run.config, dataset), dataset)
        refuse_untrainable(dataset, run.config.data.split_args)

        def write(temporary: Path) -> None:
            dataset.save(temporary)
            keep_vectors(run.config.item_features.file, dataset.catalog, temporary)
            write_json(temporary / DATA_SETTINGS, _data_settings(run))
            if truth:
                write_json(temporary / TRUTH, truth)

        shutil.rmtree(folder, ignore_errors=True)
        commit_folder(folder, write)
    wait_for_all()
    dataset = stored_data(run.folder)
    if stands:
        say_card(run.progress, run_card(run.config, dataset), dataset)
    _check_attributes(run, dataset)
    return dataset


def claim_folder(run: Run) -> None:
    """Write down whose the folder is, with the words of its prompts where they are asked.

    Raises:
        ConfigError: a prompt cannot be read, or breaks a rule.
    """
    claim(run)
    if asks_language_model(run.config) and not run.folder.summary.is_file():
        keep_templates(run.folder, run.config)


def _data_settings(run: Run) -> dict[str, Any]:
    """What the prepared data depends on."""
    c = run.config.data
    seed = run.config.seed if c.seed is None else c.seed
    seen, vectors = run.config.recommend.seen, run.config.item_features.file
    beside = {"item_features": {"vectors": vectors}} if vectors else {}  # older folders lack the key
    update = run.config.update
    beside |= {"update": update.model_dump(include={"of", "valid", "test"})} if update.of else {}
    return {"data": c.model_dump(exclude={"seed"}), "seed": seed, "recommend": {"seen": seen}} | beside


def _is_asked_for(run: Run, folder: Path) -> bool:
    """Whether whole data was prepared with these settings; where anything was trained on it, it was.

    A folder in which nothing was trained may have been claimed with other settings before.
    """
    if run.folder.is_trained():
        return True
    path = folder / DATA_SETTINGS
    there = read_json(path) if path.is_file() else {}
    difference = first_difference(there, _data_settings(run))
    if difference:
        run.progress.line(f"data: prepared anew, since {difference}")
    return not difference


def _read(run: Run) -> tuple[Dataset, dict[str, Any]]:
    """The data set of the configured source, and what its rows really are where the source knows."""
    from sasrecllm.data.ingest.sources import load_tables
    from sasrecllm.data.prepare import prepare as prepare_tables

    c = run.config.data
    seed = run.config.seed if c.seed is None else c.seed
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
            world=c.world,
            seed=seed,
            untitled=bool(run.config.update.of),
        )
    ]
    if (before := run_before(run.config)) is not None:
        return _extended(run, tables.pop(), before), {}
    truth = tables[0].truth
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
        quarantine_path=run.folder.quarantine,
    )
    # The truth of a sampled negative was never drawn, so implicit feedback has no ceiling.
    return dataset, {} if truth is None or dataset.implicit else _truth_facts(truth, dataset)


def _extended(run: Run, tables: Tables, there: RunFolder) -> Dataset:
    """The data of the run that this one goes on from, and the rows that it does not know."""
    from sasrecllm.data.extend import Learnt, extend

    c, old = run.config, stored_data(there)
    share = holdout_share(c, planned(c))
    folds = System.new(there, c, old, "cpu").fold_of_user
    gone = forgotten_in(there)
    write_json(run.folder.forgotten, gone.to_dict())
    return extend(
        old,
        tables,
        Learnt(folds, c.encoder.folds, held_out_users(old, share, c.seed), share),
        settings=c.data.model_dump(),
        valid=c.update.valid,
        test=c.update.test,
        quarantine_path=run.folder.quarantine,
        forgotten=gone.moment,
    )


def _truth_facts(truth: Truth, dataset: Dataset) -> dict[str, Any]:
    """Parameters of made-up rows, and the Bayes ceiling of the test split."""
    asked, catalog = dataset.questions("test"), dataset.catalog
    probability = truth.of(
        [catalog.user_id(int(u)) for u in asked.histories.users],
        [catalog.item_id(int(i)) for i in asked.targets],
    )
    new = ~dataset.seen_items[asked.targets]
    ceiling = bayes_ceiling(probability, asked.labels, asked.histories.users, new)
    return {"parameters": dict(truth.parameters), "ceiling": ceiling}


def _check_attributes(run: Run, dataset: Dataset) -> None:
    refuse_unknown_attributes(run.config.item_features.attributes, dataset)
