"""A run in whose place ``--force`` puts another: set aside, and deleted when that one can be trained.

So a refusal (a file that is not there, rows that cannot be) costs nothing that was trained.  What
somebody else put into the folder stays where it is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from sasrecllm.errors import ConfigError
from sasrecllm.machine import signals
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.seal import read_again

ASIDE = ".replaced"
MOVING = ".replaced.tmp"
"""The same while it is filled or emptied."""


def set_aside(folder: RunFolder) -> None:
    """Move a run, if one stands in ``folder``, into a folder inside.

    Raises:
        ConfigError: files stand there, but no run.
    """
    finish_moving(folder)
    others = [p for p in _entries(folder.path) if p.name not in (folder.lock.name, ASIDE)]
    if (folder.path / ASIDE).is_dir():
        _remove(_own(folder))  # of a start that was stopped; the run before it is aside already
        return
    if not others:
        return
    if not (folder.config.is_file() or folder.summary.is_file()):  # either may be what is damaged
        raise ConfigError(
            f"--force: {folder} holds no {folder.config.name}, so it is not a run folder",
            "delete it by hand if you mean it, or give another --out",
        )
    with signals.held():  # it is short, and half of it nobody can use
        (folder.path / MOVING).mkdir()
        for path in _own(folder):  # the manifest first: until it is back, nobody opens the run
            os.replace(path, folder.path / MOVING / path.name)
        os.replace(folder.path / MOVING, folder.path / ASIDE)


def put_back(folder: RunFolder) -> None:
    """Put back the run that was set aside, if one was, in the place of what was begun since."""
    if (folder.path / ASIDE).is_dir():
        with signals.held():
            _remove(_own(folder))
            os.replace(folder.path / ASIDE, folder.path / MOVING)
            finish_moving(folder)


def finish_moving(folder: RunFolder) -> None:
    """Put back what a kill left half moved."""
    moving = folder.path / MOVING
    if moving.is_dir():
        for path in reversed(_entries(moving)):
            os.replace(path, folder.path / path.name)
        moving.rmdir()


def discard(folder: RunFolder) -> None:
    """Delete the run that was set aside, if one was."""
    shutil.rmtree(folder.path / ASIDE, ignore_errors=True)


def _own(folder: RunFolder) -> Iterator[Path]:
    """What a run writes into its folder, as far as it is there."""
    own = read_again(folder) | {
        folder.log, folder.quarantine, folder.results_table, folder.report, folder.plots,
        folder.tensorboard, folder.tracked_as, folder.manifest,
    }  # fmt: skip
    for path in _entries(folder.path):
        if path in own or (path.name.endswith(".tmp") and path.name != MOVING):
            yield path


def _entries(path: Path) -> list[Path]:
    return sorted(path.iterdir()) if path.is_dir() else []


def _remove(paths: Iterator[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
