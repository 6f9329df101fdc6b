"""Taking users out of a finished run: their rows, their names, what the encoder keeps of each of them.

All that changes is first written beside the run, into a folder of its own, where no forgotten user is
named.  When it is complete it is moved into place, file by file.  So whenever the process ends, the run
is as it was, or nobody opens it until :func:`forget` is called on it again and finishes the move.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from sasrecllm.checkpoint import (
    PART,
    commit_folder,
    load_part,
    read_json,
    save_part,
    sync,
    write_json,
)
from sasrecllm.data.dataset import Dataset
from sasrecllm.data.ingest.user_names import file_without
from sasrecllm.data.splits import NAMES
from sasrecllm.encoders.checked_loading import without_users
from sasrecllm.errors import DataError, did_you_mean
from sasrecllm.inference.showcase import without_user
from sasrecllm.machine import signals
from sasrecllm.machine.lock import in_use
from sasrecllm.machine.progress import Progress
from sasrecllm.manifest import MANIFEST
from sasrecllm.reports.write import write_report
from sasrecllm.runs.channels import LIST_FUSION, remade
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.forgotten import forgotten_in
from sasrecllm.runs.opening import Run
from sasrecllm.runs.seal import choose_run, refuse_links, resealed
from sasrecllm.runs.stored import stored_config, stored_data
from sasrecllm.runs.system import System


def forget(path: Path, users: Sequence[str], in_store: Collection[str] = ()) -> None:
    """Take ``users`` out of a finished run folder, and finish what was interrupted before.

    Args:
        in_store: those of ``users`` whom a server's store knows; they need not be in the run.

    Raises:
        CheckpointError: the folder is no finished run, or is damaged.
        InUseError: another process works in the folder.
        DataError: nobody of that name is in the run, or a split would be empty; nothing is changed.
        ResourceError: the disk is full; nothing is changed.
    """
    if not path.is_dir():
        choose_run(path)
    if not all(map(str.strip, users)):
        raise DataError("an id of a user is empty", "give the id as it stands in the data")
    folder = RunFolder(path)
    with in_use(path):
        finished = _finish(folder)
        choose_run(path)
        _remove_leftovers(folder)
        try:
            _stage(folder, users, in_store, again=finished)
            _finish(folder)
        finally:
            if not folder.forgetting_complete.is_file():
                shutil.rmtree(folder.forgetting, ignore_errors=True)


def _remove_leftovers(folder: RunFolder) -> None:
    """Remove what killed commands left half-written: it may name anybody."""
    for left in sorted(folder.path.rglob("*.tmp")):
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)


def _stage(folder: RunFolder, users: Sequence[str], in_store: Collection[str], *, again: bool) -> None:
    """Write all that changes into the staging folder; refuse if somebody is nowhere.

    Args:
        again: ``users`` may be gone already.
    """
    dataset = stored_data(folder)
    named: set[str] = set()
    told = {user for user in users if user in in_store}

    def write(temporary: Path) -> None:
        named.update(_stage_data(folder, dataset, users, temporary))
        named.update(_stage_names(folder, users, temporary))
        if named | told:
            noted = forgotten_in(folder).and_now(named | told)
            write_json(RunFolder(temporary).forgotten, noted.to_dict())

    commit_folder(_new(folder), write)
    found = named | told
    if unknown := [user for user in users if user not in found and not again]:
        raise DataError(
            f"user {unknown[0]!r} is not in this run"
            + did_you_mean(unknown[0], dataset.catalog.user_ids),
            "give the id as it stands in the data; who was forgotten is not there any more",
        )
    if not found:
        return
    rows = bool((dataset.catalog.user_index(list(users)) >= 0).any())
    write_json(folder.forgetting_complete, {"rows": rows, "named": bool(named)})
    sync(folder.forgetting)


def _new(folder: RunFolder) -> Path:
    """What is moved into place, laid out as the run folder is."""
    return folder.forgetting / "new"


def _finish(folder: RunFolder) -> bool:
    """Move what is complete in the staging folder into place; False where nothing is."""
    new, complete = _new(folder), folder.forgetting_complete
    if not complete.is_file():
        return False
    refuse_links(folder)
    scored = [p for p in (*(s.scores for s in folder.stage_folders()), folder.baselines) if p.is_dir()]
    with signals.held(), resealed(folder):  # it is short, and half of it nobody can use
        # Scores stand for rows, and sampled negatives for all rows together: they are made anew.
        for scores in scored if read_json(complete, rows=bool)["rows"] else ():
            shutil.rmtree(scores)
        for path in sorted(new.rglob("*")):
            target = folder.path / path.relative_to(new)
            if path.is_file() and path != new / MANIFEST:
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)
                sync(target.parent)
        if read_json(complete).get("named", True):  # else nobody of them stands in the run
            command = read_json(folder.environment, command=str)["command"]
            run = Run(folder, stored_config(folder), command, Progress(quiet=True))
            write_report(run, stored_data(folder), redraw=False)
    complete.unlink()
    shutil.rmtree(folder.forgetting)
    return True


def _stage_data(folder: RunFolder, dataset: Dataset, users: Sequence[str], new: Path) -> set[str]:
    """Write the data without ``users``, and the encoders without what is theirs alone."""
    index = dataset.catalog.user_index(list(users))
    present = np.unique(index[index >= 0])
    if not len(present):
        return set()
    left = dataset.without_users(present)
    for split in NAMES:
        if len(dataset.rows(split)) and not len(left.rows(split)):
            raise DataError(
                f"without these users no row of the {split} split is left",
                "delete the run folder: it would hold nothing that could be judged",
            )

    def write(temporary: Path) -> None:
        left.save(temporary)
        # What was asked for, what a made-up world is, vectors of the items.
        for path in (*folder.data.glob("*.json"), *folder.data.glob("*.npy")):
            if not (temporary / path.name).exists():
                shutil.copyfile(path, temporary / path.name)

    later = RunFolder(new)
    commit_folder(later.data, write)
    write_json(later.summary, read_json(folder.summary) | {"data": left.digest})
    for part in (p for s in folder.stage_folders() for p in s.trained_parts()):
        tensors, about = load_part(part, {})
        blanked = without_users(tensors, about, present.tolist())
        if part.name == LIST_FUSION:  # a pair of items that he alone liked would tell of him
            blanked = remade(about["channels"], System.new(folder, stored_config(folder, None), left))
        if blanked is not None:
            requires = read_json(part / PART, requires=dict)["requires"]
            save_part(new / part.relative_to(folder.path), blanked, about, requires)
    return {user for user, n in zip(users, index, strict=True) if n >= 0}


def _stage_names(folder: RunFolder, users: Sequence[str], new: Path) -> set[str]:
    """Write every other file that names ``users`` without the lines that do; returns those named.

    A word of a sentence names nobody whom nothing else names: ``log.txt`` is full of words.
    """
    found: set[str] = set()
    for path in _files(folder):
        target = new / path.relative_to(folder.path)
        write_without = _showcase_without if path == folder.showcase else file_without
        for user in users:
            names = write_without(target if target.is_file() else path, user, target)
            if names and path.suffix != folder.log.suffix:
                found.add(user)
    return found


def _files(folder: RunFolder) -> Iterator[Path]:
    """Files that may name somebody, of those that are not looked after by themselves."""
    own = {folder.data, folder.stages, folder.language_model, folder.baselines, folder.plots}
    own |= {folder.forgetting, folder.report, folder.results_table, folder.forgotten}
    for path in sorted(folder.path.rglob("*")):
        if path.is_file() and own.isdisjoint({path, *path.parents}):
            yield path


def _showcase_without(path: Path, user: str, target: Path) -> bool:
    """Write the showcase without ``user``; False, and nothing, where it does not show him."""
    shown = read_json(path)
    left = without_user(shown, user)
    if left != shown:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_json(target, left)
    return left != shown
