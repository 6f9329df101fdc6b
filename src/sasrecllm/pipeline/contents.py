"""The table of contents: each step reads the run folder and adds to it.

Every step leaves a committed folder or file behind and is skipped where that stands already, so the
same command goes on where an interrupted one stopped.
"""

from __future__ import annotations

import time
from typing import Any

from sasrecllm import runtime
from sasrecllm.checkpoint import file_digest, read_json, write_json
from sasrecllm.pipeline.folder import Run
from sasrecllm.pipeline.judge import judge
from sasrecllm.pipeline.prepare import language_model, prepare
from sasrecllm.pipeline.present import showcase, write_report
from sasrecllm.pipeline.train import train_stages


def run_all(run: Run) -> dict[str, Any]:
    """The main job, from data to report; returns what ``run.json`` says."""
    finished = run.folder / "run.json"
    if finished.is_file():
        run.progress.line(f"{run.folder} is finished already; delete it to train again")
        return dict(read_json(finished))
    started = time.monotonic()
    dataset = prepare(run)
    language_model(run, dataset)
    train_stages(run, dataset)
    if runtime.is_main_process():
        judge(run, dataset)
        showcase(run, dataset)
        write_report(run, dataset)
        write_json(
            finished,
            {
                "name": run.config.name,
                "stages": list(run.stages),
                "seconds": round(time.monotonic() - started, 1),
                "data": dataset.digest,
                "config": file_digest(run.folder / "config.yaml"),
            },
        )
        run.progress.line(
            f"finished in {runtime.readable_seconds(time.monotonic() - started)}:"
            f" {run.folder / 'report.html'}"
        )
    runtime.wait_for_all()
    return dict(read_json(finished))
