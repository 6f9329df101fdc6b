"""The verb that lets a run go on with the rows that came since: update."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any

import typer

from sasrecllm import plugins
from sasrecllm.cli.shared import OVERRIDES, AllowPlugin, Quiet, RunFolder, app, refuse_flags
from sasrecllm.errors import ConfigError
from sasrecllm.machine.output import say

UPDATE_FLAGS = (
    "--items", "--out", "--from-store", "--promote", "--force", "--quiet", "--allow-plugin",
)  # fmt: skip


@app.command(context_settings=OVERRIDES)
def update(
    context: typer.Context,
    folder: RunFolder,
    rows: Annotated[
        Path | None, typer.Argument(help="the rows that came since: CSV, Parquet or JSON Lines")
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="ids and titles of new items, where the rows have no titles")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="folder of the new run [default: RUN-2, RUN-3, ...]"),
    ] = None,
    from_store: Annotated[
        str | None,
        typer.Option("--from-store", help="what people told a server since: its --store, or its file"),
    ] = None,
    promote: Annotated[
        str, typer.Option(help="serve the new run: auto (unless surely worse), always, never")
    ] = "auto",
    force: Annotated[bool, typer.Option("--force", help="replace the run in --out")] = False,
    quiet: Quiet = False,
    allow_plugin: AllowPlugin = None,
) -> None:
    """Go on from a finished run with new rows, users and items, into a new run folder.

    The old run stays as it is.  Both are judged on rows that neither has seen, and the link `current`
    beside them is moved to the new one unless it is surely worse.

    sasrecllm update runs/demo monday.csv --items new-items.csv
    sasrecllm update runs/current --from-store runs/current.sqlite
    """
    from sasrecllm.config import read_overrides
    from sasrecllm.data.extend import NothingNew
    from sasrecllm.machine.command import own_command
    from sasrecllm.reports.changes import changes_table
    from sasrecllm.updates.promote import checked
    from sasrecllm.updates.update import update as update_run

    when = checked(promote, "--promote")
    words = [*context.args]
    if rows is not None and "=" in str(rows) and not rows.exists():  # a setting in the place of a file
        words, rows = [str(rows), *words], None
    refuse_flags(words, UPDATE_FLAGS)
    if (rows is None) == (from_store is None):
        raise ConfigError(
            f"update was given {'no rows' if rows is None else 'rows and --from-store'}",
            "give the file of the rows that came since, or --from-store with the server's store",
        )
    plugins.allow(allow_plugin or ())
    try:
        done = update_run(
            folder, rows, items, out, promote=when, given=[*read_overrides(words)],
            store=None if from_store is None else _store_rows(folder, from_store),
            command=own_command(), quiet=quiet, force=force,
        )  # fmt: skip
    except NothingNew as nothing:
        say(f"{nothing.what}: {folder} stays as it is")
        return
    say(changes_table(done.found))
    say(done.said)


def _store_rows(folder: Path, url: str) -> Any:
    """The items and the feedback that the store of a server has."""
    from sasrecllm.machine.command import without_password
    from sasrecllm.serving.store import open_store
    from sasrecllm.updates.from_store import StoreRows

    if "://" not in url and not Path(url).is_file():
        raise ConfigError(
            f"--from-store {url}: no such file",
            f"name the store of the server; without a --store of its own it is {folder}.sqlite",
        )
    with contextlib.closing(open_store(url)) as store:
        # First the rows: what is told meanwhile has a higher number, and waits for the next update.
        rows = store.interactions()
        name = without_password(url) if "://" in url else url
        return StoreRows(name, store.identity(), rows, store.items())
