"""The table of contents: each step reads the run folder and adds to it.

Every step leaves a committed folder or file behind and is skipped where that stands already, so the
same command goes on where an interrupted one stopped.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sasrecllm.checkpoint import read_json, write_json
from sasrecllm.data.dataset import Dataset
from sasrecllm.inference.recommender import Recommender
from sasrecllm.inference.showcase import showcase
from sasrecllm.machine.device import use_threads
from sasrecllm.machine.distributed import is_main_process, wait_for_all
from sasrecllm.machine.memory import peak_megabytes
from sasrecllm.machine.progress import readable_seconds
from sasrecllm.pipeline.evaluate import evaluate_run
from sasrecllm.pipeline.preflight import check_language_model, check_loaded, check_prompts
from sasrecllm.pipeline.prepare import check_settings, prepare
from sasrecllm.pipeline.train import train_stages
from sasrecllm.reports.write import write_report
from sasrecllm.runs.opening import Run
from sasrecllm.runs.replaced import discard
from sasrecllm.runs.seal import seal, unseal, verify_run
from sasrecllm.runs.standing import standing, written_under
from sasrecllm.runs.stored import stored_data
from sasrecllm.runs.system import System
from sasrecllm.stages.costs import costs
from sasrecllm.stages.kind import Work
from sasrecllm.stages.own_language_model import language_model
from sasrecllm.stages.settle import settle
from sasrecllm.stages.strategies import all_stages, planned


def run_all(run: Run) -> dict[str, Any]:
    """The main job, from data to report; returns the summary of the run."""
    if run.folder.is_sealed() and (about := standing(run.folder.summary, run.config)):
        verify_run(run.folder)
        # Not into the log: a finished run may lie where nothing can be written.
        said = f"{run.folder} is finished already; --force trains it again"
        run.progress.line(said, keep=False)
        return about
    started, before = time.monotonic(), run.folder.seconds()
    dataset = train_all(run)
    if is_main_process():
        found = standing(run.folder.results, run.config) or evaluate_run(run, dataset)
        unseal(run.folder)
        system = Recommender.of_run(run.folder, run.config.device, run.config)
        if system.said_of_index:
            run.progress.line(system.said_of_index)
        write_json(run.folder.showcase, showcase(system))
        write_report(run, dataset)
        _finish(run, dataset, found, time.monotonic() - started, before)
    wait_for_all()
    return read_json(run.folder.summary)


def _finish(
    run: Run, dataset: Dataset, results: Mapping[str, Any], seconds: float, trained: float
) -> None:
    """Write the summary and seal the run; costs of earlier sittings, which trained it, stay in.

    Args:
        seconds: of this sitting.
        trained: seconds of training before it.
    """
    path = run.folder.summary
    number = (int, float)
    before = {"seconds": trained, "peak_megabytes": 0}
    if path.is_file():
        before = read_json(path, seconds=number, peak_megabytes=number)
    stages = planned(run.config)
    about = {
        "name": run.name,
        "quick": run.config.quick,
        "stages": list(all_stages(run.config)),
        **written_under(run.config),
        "seconds": round(before["seconds"] + seconds, 1),
        "data": dataset.digest,
        "peak_megabytes": max(before["peak_megabytes"], round(peak_megabytes())),
        "costs": costs(run.folder, stages, results["parameters"]),
    }
    write_json(path, about)
    seal(run.folder)
    run.progress.line(f"finished in {readable_seconds(seconds)}: {run.folder.report}")


def train_all(run: Run, splits: Sequence[str] = ("valid", "test")) -> Dataset:
    """Data, language model and every stage; returns the data.

    Args:
        splits: what every stage scores; tuning leaves the test split alone, and has no use for lists.
    """
    started = time.monotonic()
    use_threads(run.config.threads)
    check_settings(run)
    check_language_model(run)
    dataset = prepare(run)
    settle(run, dataset, started)
    check_prompts(run, dataset)
    check_loaded(run, dataset)
    if is_main_process():
        discard(run.folder)
    language_model(run, dataset)
    system = System.new(run.folder, run.config, dataset, run.config.device)
    stages = (all_stages if "test" in splits else planned)(run.config)
    train_stages(Work(run, dataset, system, stages, tuple(splits)))
    return dataset


def evaluate_again(run: Run) -> None:
    """Judge a trained run anew; a report that stands is written anew too, so that both say the same."""
    use_threads(run.config.threads)
    dataset = stored_data(run.folder)
    evaluate_run(run, dataset)
    if run.folder.report.is_file():
        write_report(run, dataset)


def report_again(run: Run) -> None:
    """Write plots and report of an evaluated run anew."""
    write_report(run, stored_data(run.folder))
