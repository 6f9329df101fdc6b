"""Parts that a stage takes from another run: copied in, so that the run hangs on nothing outside it."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from sasrecllm.checkpoint import commit_folder, is_part, is_whole
from sasrecllm.errors import CheckpointError
from sasrecllm.manifest import read_manifest, verify_folder
from sasrecllm.runs.folder import RunFolder, StageFolder, folds_beside


def keep_part(stage: StageFolder, part: str, place: str) -> None:
    """Copy a part of another run into a stage's folder, with the fold encoders that go with it.

    Args:
        place: what the stage's ``load`` says: a run folder, or the folder of the part itself.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    own = stage.loaded_part(part)
    if is_whole(own):
        return
    source = foreign_part(part, place)
    folds = folds_beside(source) if part == "encoder" else []
    for target, there in [*((own.parent / f.name, f) for f in folds), (own, source)]:
        copy_folder(there, target)


def copy_folder(source: Path, target: Path) -> None:
    """Copy a committed folder, which is checked first; what stands there goes.

    Raises:
        CheckpointError: it is not there, or is damaged.
    """
    verify_folder(source)
    shutil.rmtree(target, ignore_errors=True)
    commit_folder(target, partial(_copy_files, source))


def loaded_part(stage: StageFolder, part: str, place: str, before: RunFolder | None = None) -> Path:
    """A part that a stage takes from elsewhere: the run's own copy of it, or its place.

    Args:
        before: the run that this one goes on from, whose copy comes before the place.

    Raises:
        CheckpointError: the run has none yet, and there is none at ``place``.
    """
    for folder in (stage, None if before is None else before.same_stage(stage)):
        if folder is not None and (own := folder.loaded_part(part)).is_dir():
            return own
    return foreign_part(part, place)


def foreign_part(part: str, place: str) -> Path:
    """Where another run (or a folder of parts) keeps its newest ``part``.

    Raises:
        CheckpointError: there is none.
    """
    folder = Path(place)
    found = folder if is_part(folder) else RunFolder(folder).trained_part(part)
    if found is None:
        raise CheckpointError(
            f"load: {folder} has no trained {part}",
            f"give a run folder whose strategy trained its {part}, or the part's own folder",
        )
    return found


def run_of(part: Path) -> RunFolder | None:
    """The run whose stage trained a part, or keeps a copy of it; None for a folder outside a run."""
    parents = part.resolve().parents  # RUN/stages/1-name/parts/adapter
    run = RunFolder(parents[3]) if len(parents) > 3 else None
    return run if run is not None and run.config.is_file() else None


def _copy_files(source: Path, target: Path) -> None:
    for name in read_manifest(source):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
