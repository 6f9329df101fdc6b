"""Training the stages of a strategy, one after another, each into its own folder.

A finished stage has ``stage.json``, its ``parts/`` and its ``scores/`` of the validation and the test
rows; it is never trained again.  The scores are written by the very scorer that the stage ends with,
so a row of the table cannot come from other weights than the parts on disk.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from sasrecllm.checkpoint import is_whole, write_json
from sasrecllm.machine import trace
from sasrecllm.machine.distributed import is_main_process, wait_for_all
from sasrecllm.machine.progress import readable_seconds
from sasrecllm.runs.folder import StageFolder, folds_beside
from sasrecllm.runs.loaded import keep_part, loaded_part
from sasrecllm.runs.parts import part_of
from sasrecllm.runs.scores import save_scores
from sasrecllm.stages.kind import Stage, Work
from sasrecllm.stages.title_prior import TitlePrior


def train_stages(work: Work) -> None:
    """Train every stage that is not finished yet, and score ``work.splits`` with each."""
    say = work.run.progress.line
    applied = any(isinstance(s.kind, TitlePrior) for s in work.stages.values())
    if work.config.encoder.prior == "titles" and not applied:
        say("note: encoder.prior=titles has no effect: no stage applies it")
    for folder, stage in work.run.folder.of_stages(work.stages):
        if folder.about.is_file():
            say(f"stage {stage.name}: finished already")
            continue
        _bring_in(work, stage, folder)
        with trace.span(f"stage {stage.name}", None, task=stage.kind.name, run=work.run.name):
            _train(work, stage, folder)
        wait_for_all()


def _bring_in(work: Work, stage: Stage, folder: StageFolder) -> None:
    """Load what earlier stages trained or ``load`` names, where memory holds something else."""
    if is_main_process():
        for part, place in stage.load.items():
            before = work.before(stage)
            there = None if before is None else before.loaded_part(part)
            if there is None or not there.is_dir() or part_of(part).begin is None:
                keep_part(folder, part, place)
            elif not is_whole(folder.loaded_part(part)):
                _keep_grown(work, part, there, folder.loaded_part(part))
    wait_for_all()
    wanted = work.run.folder.newest_parts(before=folder.number)
    wanted |= {part: loaded_part(folder, part, place) for part, place in stage.load.items()}
    work.system.bring_in(wanted)
    for part, former in work.former_parts(stage).items():
        if part in stage.train:  # fold encoders begin when their turn comes
            work.system.begin_with(part, former)


def _keep_grown(work: Work, part: str, there: Path, own: Path) -> None:
    """What the run before took from elsewhere, over an update's items and users; fold encoders too."""
    system = work.system
    folds = folds_beside(there) if part == "encoder" else []
    if folds:
        system.new_folds()
    for name, of in [*((f.name, f) for f in folds), (part, there)]:
        system.begin_with(name, of, learns=False)
        system.save(name, own.parent / of.name)


def _train(work: Work, stage: Stage, folder: StageFolder) -> None:
    started = time.monotonic() - folder.seconds()  # as if what a killed start had done were done now
    say = work.run.progress.line
    if stage.train:
        requires = [part_of(part).requires(work.system) for part in stage.train]
        digests = {key: digest for one in requires for key, digest in one.items()}
        folder.store().begin(digests, writes=is_main_process())
    say(f"stage {stage.name}: {stage.kind.name}, trains {', '.join(stage.train) or 'nothing'}")
    result = stage.kind.fit(work, stage, folder)
    trained = time.monotonic() - started
    if is_main_process():
        for part in stage.train:
            work.system.save(part, folder.part(part))
        about: dict[str, Any] = {"name": stage.name, "row": stage.row, "task": stage.kind.name}
        about |= {"train": list(stage.train), "prompt": stage.prompt, "result": result}
        about |= {"seconds": round(trained, 1), "seconds_per_row": _score(work, stage, folder)}
        write_json(folder.about, about)
        shutil.rmtree(folder.checkpoints, ignore_errors=True)
    work.system.origin |= {part: folder.part(part) for part in stage.train}
    say(f"stage {stage.name}: {readable_seconds(trained)}")


def _score(work: Work, stage: Stage, folder: StageFolder) -> float:
    """Score the splits by the scorer that this stage ends with, if any; seconds that a row took."""
    if not stage.kind.has_row:
        return 0.0
    started = time.monotonic()
    scores = {split: stage.kind.scores(work, stage, split) for split in work.splits}
    save_scores(folder.scores, scores, {"row": stage.row}, work.dataset.digest)
    return (time.monotonic() - started) / max(1, sum(len(v) for v in scores.values()))
