"""Parts that a stage takes from another run: copied in, so that the run hangs on nothing outside it."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from sasrecllm.checkpoint import commit_folder, is_whole
from sasrecllm.manifest import read_manifest, verify_folder
from sasrecllm.runs.stored import LOADED, foreign_part, stage_folder
from sasrecllm.stages.plan import Stage


def keep_part(run: Path, number: int, stage: Stage, part: str) -> None:
    """Copy a part that a stage loads into the run, with the fold encoders that go with an encoder.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    own = stage_folder(run, number, stage.name) / LOADED
    if is_whole(own / part):
        return
    source = foreign_part(Path(stage.load[part]), part)
    folds = source.parent.glob("fold-*") if part == "encoder" else ()
    for target, there in [*((own / f.name, f) for f in folds), (own / part, source)]:
        verify_folder(there)
        shutil.rmtree(target, ignore_errors=True)
        commit_folder(target, partial(_copy_files, there))


def _copy_files(source: Path, target: Path) -> None:
    for name in read_manifest(source):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
