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
from sasrecllm.machine.distributed import is_main_process, wait_for_all
from sasrecllm.machine.progress import readable_seconds
from sasrecllm.pipeline.evaluate import judge
from sasrecllm.pipeline.language import check_language_model, check_prompts
from sasrecllm.pipeline.prepare import check_settings, language_model, prepare
from sasrecllm.pipeline.present import showcase, write_report
from sasrecllm.pipeline.train import train_stages
from sasrecllm.runs.folder import Run, standing
from sasrecllm.runs.scores import costs, peak_megabytes
from sasrecllm.runs.seal import is_sealed, seal, unseal, verify_run
from sasrecllm.runs.stored import stored_backbone, stored_data


def run_all(run: Run) -> dict[str, Any]:
    """The main job, from data to report; returns what ``run.json`` says."""
    finished, results = run.folder / "run.json", run.folder / "results.json"
    if is_sealed(run.folder) and (about := standing(finished, run.config)):
        verify_run(run.folder)
        # Not into the log: a finished run may lie where nothing can be written.
        said = f"{run.folder} is finished already; --force trains it again"
        run.progress.line(said, keep=False)
        return about
    started = time.monotonic()
    dataset, backbone = train_all(run)
    if is_main_process():
        found = standing(results, run.config) or judge(run, dataset, backbone)
        unseal(run.folder)
        showcase(run, dataset)
        write_report(run, dataset)
        _finish(run, dataset, found, time.monotonic() - started)
    wait_for_all()
    return read_json(finished)


def _finish(run: Run, dataset: Dataset, results: Mapping[str, Any], seconds: float) -> None:
    """Write ``run.json`` and seal the run; costs of an earlier sitting, which trained it, stay in."""
    path = run.folder / "run.json"
    number = (int, float)
    before = {"seconds": 0.0, "peak_megabytes": 0}
    if path.is_file():
        before = read_json(path, seconds=number, peak_megabytes=number)
    about = {
        "name": run.name,
        "stages": list(run.stages),
        "evaluation": run.config.evaluation.model_dump(),
        "seconds": round(before["seconds"] + seconds, 1),
        "data": dataset.digest,
        "peak_megabytes": max(before["peak_megabytes"], round(peak_megabytes())),
        "costs": costs(run, results["parameters"]),
    }
    write_json(path, about)
    seal(run.folder)
    run.progress.line(f"finished in {readable_seconds(seconds)}: {run.folder / 'report.html'}")


def train_all(run: Run, splits: Sequence[str] = ("valid", "test")) -> tuple[Dataset, str]:
    """Data, language model and every stage; returns the data and where the language model lies.

    Args:
        splits: what every stage scores when it is trained; tuning leaves the test split alone.
    """
    if run.config.threads:
        import torch

        torch.set_num_threads(run.config.threads)
    check_settings(run)
    check_language_model(run)
    dataset = prepare(run)
    check_prompts(run, dataset)
    backbone = language_model(run, dataset)
    train_stages(run, dataset, backbone, splits)
    return dataset, backbone


def evaluate_again(run: Run) -> None:
    """Judge a trained run anew."""
    dataset = stored_data(run.folder)
    judge(run, dataset, stored_backbone(run.folder, run.config))


def report_again(run: Run) -> None:
    """Write plots and report of an evaluated run anew."""
    write_report(run, stored_data(run.folder))
