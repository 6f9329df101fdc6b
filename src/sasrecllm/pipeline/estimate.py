"""``--dry-run``: what a run would choose and cost here, from a few real steps of every stage."""

from __future__ import annotations

import time

from sasrecllm.machine.device import use_threads
from sasrecllm.machine.progress import readable_seconds
from sasrecllm.pipeline.preflight import check_language_model, check_loaded, check_prompts
from sasrecllm.pipeline.prepare import check_settings, prepare
from sasrecllm.runs.opening import Run
from sasrecllm.stages.settle import choose
from sasrecllm.stages.timing import run_time


def estimate(run: Run) -> float:
    """Prepare the data, time a few steps of each stage on fresh parts, and say the sum in seconds.

    The data stays in the run folder for the real run; everything else is thrown away.  Early stopping
    can only make a stage shorter than said.
    """
    started = time.monotonic()
    use_threads(run.config.threads)
    check_settings(run)
    check_language_model(run)
    dataset = prepare(run)
    run.config = choose(run, dataset, started)
    check_prompts(run, dataset)
    check_loaded(run, dataset)
    found = run_time(run, dataset)
    if found.documents:
        seconds = readable_seconds(found.document * found.documents)
        run.progress.line(f"language model: {found.documents} documents read, about {seconds}")
    for name, stage in found.stages.items():
        if stage.seconds:
            said = f"{stage.said}, " if stage.said else ""
            run.progress.line(f"stage {name}: {said}about {readable_seconds(stage.seconds)}")
    run.progress.line(f"evaluation: about {readable_seconds(found.judging)}")
    run.progress.line(f"in all about {readable_seconds(found.seconds)}")
    return found.seconds
