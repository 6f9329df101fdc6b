"""The verb that lets a run go on with the rows that came since: update."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sasrecllm import plugins
from sasrecllm.cli.shared import OVERRIDES, AllowPlugin, Quiet, RunFolder, app, refuse_flags
from sasrecllm.errors import ConfigError, did_you_mean
from sasrecllm.machine.output import say

UPDATE_FLAGS = ("--items", "--out", "--promote", "--force", "--quiet", "--allow-plugin")


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
    promote: Annotated[
        str, typer.Option(help="auto: unless it is surely worse; always; never")
    ] = "auto",
    force: Annotated[bool, typer.Option("--force", help="delete the new run's folder first")] = False,
    quiet: Quiet = False,
    allow_plugin: AllowPlugin = None,
) -> None:
    """Go on from a finished run with new rows, users and items, into a new run folder.

    The old run stays as it is.  Both are judged on rows that neither has seen, and the link `current`
    beside them is moved to the new one unless it is surely worse.

    sasrecllm update runs/demo monday.csv --items new-items.csv
    """
    from sasrecllm.data.extend import NothingNew
    from sasrecllm.reports.changes import changes_table
    from sasrecllm.updates.promote import PROMOTE
    from sasrecllm.updates.settings import overrides_of
    from sasrecllm.updates.update import update as update_run

    if promote not in PROMOTE:
        raise ConfigError(
            f"--promote is {promote!r}; allowed: {', '.join(PROMOTE)}{did_you_mean(promote, PROMOTE)}",
            "choose one of these",
        )
    words = [*context.args]
    if rows is not None and "=" in str(rows) and not rows.exists():  # a setting in the place of a file
        words, rows = [str(rows), *words], None
    refuse_flags(words, UPDATE_FLAGS)
    if rows is None:
        raise ConfigError("update was given no rows", "give the file of the rows that came since")
    plugins.allow(allow_plugin or ())
    try:
        done = update_run(
            folder, rows, items, out, promote=promote, given=overrides_of(words),
            command="sasrecllm " + " ".join(sys.argv[1:]), quiet=quiet, force=force,
        )  # fmt: skip
    except NothingNew as nothing:
        say(f"{nothing.what}: {folder} stays as it is")
        return
    say(changes_table(done.found))
    say(done.said)
