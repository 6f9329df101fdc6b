"""An update from beginning to end: a run of its own, which the run before does not notice."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sasrecllm.checkpoint import read_json
from sasrecllm.data.extend import NothingNew
from sasrecllm.data.ingest.frames import lent
from sasrecllm.errors import ConfigError
from sasrecllm.machine.lock import in_use
from sasrecllm.machine.os_errors import as_refusals
from sasrecllm.pipeline.run import run_all
from sasrecllm.runs.opening import run_at_work
from sasrecllm.runs.seal import choose_run
from sasrecllm.runs.stored import stored_data
from sasrecllm.updates.judge import before_after
from sasrecllm.updates.promote import Promote, link_of, point, wanted
from sasrecllm.updates.settings import next_folder, settings_of


@dataclass(frozen=True)
class Updated:
    """How an update ended.

    Args:
        folder: the run that goes on from the other.
        found: what :func:`~.judge.before_after` says.
        link: what names the run to be served; None where nothing is promoted.
        promoted: whether that names the new run now.
    """

    folder: Path
    found: dict[str, Any]
    link: Path | None
    promoted: bool

    @property
    def said(self) -> str:
        """In words, with what to do next."""
        if self.link is None:
            return f"{self.folder}"
        if self.promoted:
            return f"{self.link} names {self.folder} now; a server of it takes it at its next SIGHUP"
        worse = " and ".join(self.found["worse"])
        return (
            f"{self.folder} is surely worse by {worse}, so {self.link} stays as it is; --promote always"
            " lets it name the new run all the same"
        )


def update(
    run: Path,
    interactions: Any,
    items: Any = None,
    out: Path | None = None,
    *,
    promote: Promote = "auto",
    given: Iterable[tuple[str, Any, str]] = (),
    command: str = "sasrecllm.update(...)",
    quiet: bool = False,
    force: bool = False,
) -> Updated:
    """Train a run that goes on from ``run`` with new rows, judge both, and promote the better.

    ``run`` is only read.  The same call goes on after a stop.

    Args:
        run: a finished run folder, or a link to one.
        interactions, items: new rows and items, as :func:`sasrecllm.fit` takes them.
        out: folder of the new run; the next number behind the name of ``run`` without.
        promote: ``auto`` moves the link to the new run unless it is surely worse.
        given: dotted key, value and origin of settings of the user's own.

    Raises:
        NothingNew: every row is known already; nothing was written.
        CheckpointError: ``run`` is not finished, or is damaged.
        ConfigError: a setting, or a place, that cannot be.
        DataError: the rows are invalid, or contradict the run.
    """
    with as_refusals(run):
        there = choose_run(run.resolve())
    with lent(interactions, items) as data:
        config = settings_of(there, _absolute(data), given)
        folder = out or next_folder(there.path, config)
        _refuse_inside(there.path, folder)
        link = None if promote == "never" else link_of(run, folder)
        try:
            with run_at_work(folder, config, command, quiet=quiet, force=force) as opened:
                run_all(opened)
        except NothingNew:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    if not opened.folder.update.is_file():
        with in_use(folder):
            before_after(opened, stored_data(opened.folder))
    found = read_json(opened.folder.update, metrics=dict, worse=list)
    promoted = link is not None and wanted(promote, found)
    if link is not None and promoted:
        point(link, folder)
    return Updated(folder, found, link, promoted)


def _absolute(data: dict[str, str]) -> dict[str, str]:
    """Paths as the run keeps them, so that the same update is known from another folder."""
    return {
        key: os.path.abspath(os.path.expanduser(value))
        if key.endswith("path") and not value.startswith("frame-")
        else value
        for key, value in data.items()
    }


def _refuse_inside(run: Path, out: Path) -> None:
    where = out.resolve()
    if where == run or run in where.parents:
        raise ConfigError(
            f"--out {out} is the run that is updated, or lies in it; it stays as it is",
            "give another folder, or none: the update then goes beside it",
        )
