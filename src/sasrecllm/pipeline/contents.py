"""The table of contents: each step reads the run folder and adds to it.

Every step leaves a committed folder or file behind and is skipped where that stands already, so the
same command goes on where an interrupted one stopped.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sasrecllm import runtime
from sasrecllm.checkpoint import read_json, write_json
from sasrecllm.data.dataset import Dataset
from sasrecllm.pipeline.folder import Run
from sasrecllm.pipeline.judge import judge
from sasrecllm.pipeline.prepare import check_settings, language_model, prepare
from sasrecllm.pipeline.present import showcase, write_report
from sasrecllm.pipeline.scores import costs, peak_megabytes
from sasrecllm.pipeline.train import train_stages


def run_all(run: Run) -> dict[str, Any]:
    """The main job, from data to report; returns what ``run.json`` says."""
    finished = run.folder / "run.json"
    if finished.is_file():
        run.progress.line(f"{run.folder} is finished already; --force trains it again")
        return dict(read_json(finished))
    started = time.monotonic()
    dataset, backbone = train_all(run)
    if runtime.is_main_process():
        results = judge(run, dataset, backbone)
        showcase(run, dataset)
        write_report(run, dataset)
        seconds = time.monotonic() - started
        about = {"name": run.config.name, "stages": list(run.stages), "seconds": round(seconds, 1)}
        about |= {"data": dataset.digest, "peak_megabytes": round(peak_megabytes())}
        write_json(finished, about | {"costs": costs(run, results["parameters"])})
        run.progress.line(
            f"finished in {runtime.readable_seconds(seconds)}: {run.folder / 'report.html'}"
        )
    runtime.wait_for_all()
    return dict(read_json(finished))


def train_all(run: Run, splits: Sequence[str] = ("valid", "test")) -> tuple[Dataset, str]:
    """Data, language model and every stage; returns the data and where the language model lies.

    Args:
        splits: what every stage scores when it is trained; tuning leaves the test split alone.
    """
    if run.config.threads:
        import torch

        torch.set_num_threads(run.config.threads)
    check_settings(run)
    dataset = prepare(run)
    backbone = language_model(run, dataset)
    train_stages(run, dataset, backbone, splits)
    return dataset, backbone


def evaluate_again(run: Run) -> None:
    """Judge a trained run anew."""
    (run.folder / "results.json").unlink(missing_ok=True)
    dataset = Dataset.load(run.folder / "data")
    judge(run, dataset, language_model(run, dataset))


def report_again(run: Run) -> None:
    """Write plots and report of an evaluated run anew."""
    write_report(run, Dataset.load(run.folder / "data"))
