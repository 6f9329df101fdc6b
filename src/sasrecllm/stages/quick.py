"""From a quick run to the whole one in the same folder: what both make alike is kept.

Until the settings are written, last of all, the folder is the quick run's, and the same command begins
here again.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from sasrecllm.data.dataset import Dataset
from sasrecllm.runs.opening import Run, write_settings
from sasrecllm.runs.seal import unseal
from sasrecllm.runs.stored import stored_config
from sasrecllm.runs.system import System
from sasrecllm.stages.kind import Work
from sasrecllm.stages.strategies import all_stages


def take_over(run: Run, dataset: Dataset) -> None:
    """Make the folder of a quick run that of ``run``; the data and stages that are alike stay."""
    quick = replace(run, config=stored_config(run.folder))
    old, new = _work(quick, dataset), _work(run, dataset)
    moves: dict[Path, Path | None] = {}
    kept = []
    for name, stage in old.stages.items():
        other, target = new.stages.get(name), None
        if other is not None and other.kind is stage.kind:
            made = stage.kind.made_of(old, stage)
            if made is not None and made == other.kind.made_of(new, other):
                target = new.folder(other).path
                kept.append(name)
        moves[old.folder(stage).path] = target
    unseal(run.folder)
    for path in (run.folder.results, run.folder.summary, run.folder.showcase):
        path.unlink(missing_ok=True)  # of the quick run
    for source, target in reversed(moves.items()):  # numbers grow, so the last stage makes room
        if target is None:
            shutil.rmtree(source, ignore_errors=True)
        elif source != target and source.is_dir():
            source.rename(target)
    write_settings(run)
    said = ", ".join(["the data", *(f"stage {name}" for name in kept)])
    run.progress.line(f"goes on from the quick run in this folder, whose {said} it keeps")


def _work(run: Run, dataset: Dataset) -> Work:
    system = System.new(run.folder, run.config, dataset, run.config.device)
    return Work(run, dataset, system, all_stages(run.config))
