"""Taking users out of a finished run: their rows, their names, what the encoder keeps of each of them.

All that changes is first written beside the run, into ``forget.tmp``, where no forgotten user is named.
When it is complete it is moved into place, file by file.  So whenever the process ends, the run is as
it was, or nobody opens it until :func:`forget` is called on it again and finishes the move.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sasrecllm.checkpoint import commit_folder, load_part, read_json, save_part, sync, write_json
from sasrecllm.data.dataset import Dataset
from sasrecllm.data.ingest.user_names import TABLES, named_in, names_a_user, table_without
from sasrecllm.data.splits import NAMES
from sasrecllm.encoders.loading import without_users
from sasrecllm.errors import DataError, did_you_mean
from sasrecllm.machine import signals
from sasrecllm.machine.lock import in_use
from sasrecllm.machine.progress import Progress
from sasrecllm.pipeline.present import write_report
from sasrecllm.runs.folder import Run
from sasrecllm.runs.scores import BASELINES_FOLDER
from sasrecllm.runs.seal import FORGETTING, choose_run, refuse_links, resealed
from sasrecllm.runs.stored import stored_config, stored_data

STAGING, COMPLETE = FORGETTING.split("/")
"""The folder, and the file in it that stands when all else is written; says whether rows go."""
NOBODYS = frozenset({"data", "stages", "llm", BASELINES_FOLDER, "plots", STAGING})
"""Folders of a run that name nobody, or are looked after by themselves."""
REPORT = frozenset({"report.html", "results.md"})
"""Written anew at the end."""


def forget(folder: Path, users: Sequence[str], told: Collection[str] = ()) -> None:
    """Take ``users`` out of a finished run folder, and finish what was interrupted before.

    Args:
        told: those of ``users`` whom somebody else knows (a server's store); not being in the run is
            no fault of theirs.

    Raises:
        CheckpointError: the folder is no finished run, or is damaged.
        InUseError: another process works in the folder.
        DataError: nobody of that name is in the run, or a split would be empty; nothing is changed.
        ResourceError: the disk is full; nothing is changed.
    """
    if not folder.is_dir():
        choose_run(folder)
    with in_use(folder):
        finished = _finish(folder)
        choose_run(folder)
        _remove_leftovers(folder)
        try:
            _stage(folder, users, [] if finished else [user for user in users if user not in told])
            _finish(folder)
        finally:
            if not (folder / STAGING / COMPLETE).is_file():
                shutil.rmtree(folder / STAGING, ignore_errors=True)


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed commands left half-written: it may name anybody."""
    for left in sorted(folder.rglob("*.tmp")):
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)


def _stage(folder: Path, users: Sequence[str], expected: Sequence[str]) -> None:
    """Write all that changes into the staging folder; refuse if one of ``expected`` is nowhere."""
    dataset = stored_data(folder)
    found: set[str] = set()

    def write(temporary: Path) -> None:
        found.update(_stage_data(folder, dataset, users, temporary))
        found.update(_stage_names(folder, users, temporary))

    commit_folder(folder / STAGING / "new", write)
    if unknown := [user for user in expected if user not in found]:
        raise DataError(
            f"user {unknown[0]!r} is not in this run"
            + did_you_mean(unknown[0], dataset.catalog.user_ids),
            "give the id as it stands in the data; who was forgotten is not there any more",
        )
    if not found:
        return
    rows = bool((dataset.catalog.user_index(list(users)) >= 0).any())
    write_json(folder / STAGING / COMPLETE, {"rows": rows})
    sync(folder / STAGING)


def _finish(folder: Path) -> bool:
    """Move what is complete in the staging folder into place; False where nothing is."""
    staging, new = folder / STAGING, folder / STAGING / "new"
    if not (staging / COMPLETE).is_file():
        return False
    refuse_links(folder)
    scored = [*folder.glob("stages/*/scores"), *folder.glob(BASELINES_FOLDER)]
    with signals.held(), resealed(folder):  # it is short, and half of it nobody can use
        # Scores stand for rows, and sampled negatives for all rows together: they are made anew.
        for scores in scored if read_json(staging / COMPLETE, rows=bool)["rows"] else ():
            shutil.rmtree(scores)
        for path in sorted(new.rglob("*")):
            target = folder / path.relative_to(new)
            if path.is_file() and path != new / "MANIFEST.sha256":
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)
                sync(target.parent)
        command = read_json(folder / "env.json", command=str)["command"]
        run = Run(folder, stored_config(folder), command, Progress(quiet=True))
        write_report(run, stored_data(folder), redraw=False)
    (staging / COMPLETE).unlink()
    shutil.rmtree(staging)
    return True


def _stage_data(folder: Path, dataset: Dataset, users: Sequence[str], new: Path) -> set[str]:
    """Write the data without ``users``, and the encoders without what is theirs alone."""
    index = dataset.catalog.user_index(list(users))
    known = np.unique(index[index >= 0])
    if not len(known):
        return set()
    left = dataset.without_users(known)
    for split in NAMES:
        if len(dataset.rows(split)) and not len(left.rows(split)):
            raise DataError(
                f"without these users no row of the {split} split is left",
                "delete the run folder: it would hold nothing that could be judged",
            )

    def write(temporary: Path) -> None:
        left.save(temporary)
        for path in (folder / "data").glob("*.json"):  # what was asked for, what a made-up world is
            if not (temporary / path.name).exists():
                shutil.copyfile(path, temporary / path.name)

    commit_folder(new / "data", write)
    write_json(new / "run.json", read_json(folder / "run.json") | {"data": left.digest})
    for part in sorted(folder.glob("stages/*/parts/*/part.json")):
        tensors, about = load_part(part.parent, {})
        blanked = without_users(tensors, about, known.tolist())
        if blanked is not None:
            requires = read_json(part, requires=dict)["requires"]
            save_part(new / part.parent.relative_to(folder), blanked, about, requires)
    return {user for user, n in zip(users, index, strict=True) if n >= 0}


def _stage_names(folder: Path, users: Sequence[str], new: Path) -> set[str]:
    """Write every other file that names ``users`` without the lines that do; returns those named."""
    found: set[str] = set()
    for path in _files(folder):
        target = new / path.relative_to(folder)
        for user in users:
            source = target if target.is_file() else path
            if _written_without(source, user, target):
                found.add(user)
    return found


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and parts[0] not in NOBODYS and parts[0] not in REPORT:
            yield path


def _written_without(path: Path, user: str, target: Path) -> bool:
    """Write the lines of ``path`` that do not name ``user``; False, and nothing, where none does."""
    if path.suffix in TABLES:
        return table_without(path, [user], target)
    if path.name == "showcase.json":
        shown = read_json(path)
        left = _shown_without(shown, user)
        if left != shown:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_json(target, left)
        return left != shown
    if path.suffix not in (".jsonl", ".txt", ".log"):
        return False
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if not _names(line, user, path.suffix == ".jsonl")]
    if len(kept) < len(lines):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("".join(kept), encoding="utf-8")
    return len(kept) < len(lines)


def _names(line: str, user: str, is_json: bool) -> bool:
    try:
        return names_a_user(json.loads(line), [user]) if is_json else named_in(line, user)
    except ValueError:  # a line that somebody else wrote
        return named_in(line, user)


def _shown_without(shown: dict[str, Any], user: str) -> dict[str, Any]:
    """The showcase without the list of ``user`` and without the lines that stand for him."""
    lists = {f"{case} {user}" for case in ("warm user", "new user")}
    return {
        heading: [line for line in lines if not _is_of(heading, line, user)]
        for heading, lines in shown.items()
        if heading not in lists
    }


def _is_of(heading: str, line: dict[str, Any], user: str) -> bool:
    """Under a new item stand users, elsewhere items."""
    return heading.startswith("new item ") and line.get("item_id") == user
