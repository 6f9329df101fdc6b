"""An update from beginning to end: a run of its own, which the run before does not notice."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sasrecllm.checkpoint import read_json, write_json
from sasrecllm.data.ingest.frames import lent
from sasrecllm.errors import ConfigError, SasrecllmError
from sasrecllm.forget import forget
from sasrecllm.machine.distributed import is_main_process, wait_for_all
from sasrecllm.machine.lock import in_use
from sasrecllm.machine.os_errors import as_refusals
from sasrecllm.pipeline.run import run_all
from sasrecllm.runs.folder import RunFolder
from sasrecllm.runs.forgotten import Forgotten, forgotten_in
from sasrecllm.runs.opening import Run, run_at_work
from sasrecllm.runs.seal import choose_run, resealed
from sasrecllm.runs.stored import stored_config, stored_data
from sasrecllm.updates.from_store import StoreRows, taken_from
from sasrecllm.updates.judge import before_after
from sasrecllm.updates.lineage import goes_on_from
from sasrecllm.updates.next_run import goes_on, next_folder, settings_of
from sasrecllm.updates.promote import Promote, link_of, point, wanted


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
            return f"{self.link} names {self.folder} now; a server of the link takes it within seconds"
        worse = " and ".join(self.found["worse"])
        return (
            f"{self.folder} is surely worse by {worse}, so {self.link} stays as it is; --promote always"
            " lets it name the new run all the same"
        )


def update(
    run: Path,
    interactions: Any = None,
    items: Any = None,
    out: Path | None = None,
    *,
    promote: Promote = "auto",
    store: StoreRows | None = None,
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
        store: what a server's store has, in their place.
        promote: ``auto`` moves the link to the new run unless it is surely worse.
        given: dotted key, value and origin of settings of the user's own.

    Raises:
        NothingNew: every row is known already; nothing was written.
        CheckpointError: ``run`` is not finished, or is damaged.
        ConfigError: a setting, or a place, that cannot be; or no ``out``, where what is served goes on
            from ``run`` already.
        DataError: the rows are invalid, or contradict the run.
    """
    with as_refusals(run):
        there = choose_run(run.resolve())
    given = list(given)
    if interactions is None and store is None and not any(key.startswith("data.") for key, *_ in given):
        raise ConfigError(
            "update was given no rows", "give those that came since: a frame, or the path of a file"
        )
    taken = None if store is None else taken_from(there, store)
    if taken is not None:
        interactions, items = taken.interactions, taken.items
    with lent(interactions, items) as data:
        mark = None if taken is None else taken.mark
        config = settings_of(there, _absolute(data), given, mark)
        folder = out or next_folder(there.path, config)
        if not force and goes_on(RunFolder(folder), config):
            config = stored_config(RunFolder(folder))
        _refuse_inside(there.path, folder)
        link = None if promote == "never" else link_of(run, folder)
        is_new = not folder.exists()
        if is_new and out is None and link is not None:
            _refuse_to_lose_rows(there.path, link)
        begun = None
        try:
            with run_at_work(folder, config, command, quiet=quiet, force=force) as opened:
                begun = opened.folder
                run_all(opened)
        except SasrecllmError:
            # Refused for its rows: nothing here is of use, and no number is to be passed over for it.
            if begun is not None and is_new and not (begun.data.exists() or begun.quarantine.exists()):
                shutil.rmtree(folder, ignore_errors=True)
            raise
    if is_main_process():
        _judge(there, opened)
    wait_for_all()
    found = read_json(opened.folder.update, metrics=dict, worse=list)
    promoted = link is not None and wanted(promote, found)
    if link is not None and promoted and is_main_process():
        point(link, folder)
        _forget_as_before(there, opened.folder)  # who asked the server in this very moment
    return Updated(folder, found, link, promoted)


def _judge(there: RunFolder, run: Run) -> None:
    """Compare both runs, once, without whoever asked to be forgotten meanwhile."""
    _forget_as_before(there, run.folder)
    if not run.folder.update.is_file():
        with in_use(run.folder.path):
            before_after(run, stored_data(run.folder))
    _forget_as_before(there, run.folder)


def _forget_as_before(there: RunFolder, run: RunFolder) -> None:
    """Take out of ``run`` whoever was taken out of the run before since its rows were read."""
    if not there.path.is_dir():
        return
    gone, known = forgotten_in(there), forgotten_in(run)
    since = gone.at.keys() - known.at.keys()
    if not since:
        return
    if not known.at or known.key == gone.key:
        with in_use(run.path), resealed(run):
            write_json(run.forgotten, Forgotten(gone.key, {**known.at, **gone.at}).to_dict())
    users = [u for u in stored_data(run).catalog.user_ids if u and gone.digest(u) in since]
    if users:
        forget(run.path, users)


def _refuse_to_lose_rows(run: Path, link: Path) -> None:
    """Refuse an update of ``run`` where what is served goes on from it already."""
    if goes_on_from(served := link.resolve(), run):
        raise ConfigError(
            f"{link} names {served.name}, which goes on from {run.name}: another update of {run.name}"
            f" would be served in its place without the rows of {served.name}",
            f"update {link} with the new rows; or name --out to begin with {run.name} all the same",
        )


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
