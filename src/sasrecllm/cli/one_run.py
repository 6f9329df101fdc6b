"""Verbs of one run: run, prepare, train, evaluate, report, forget."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from sasrecllm.cli.shared import (
    OVERRIDES,
    AllowPlugin,
    ConfigFile,
    Out,
    Quiet,
    RunFolder,
    app,
    open_run,
    print_yaml,
    refuse_flags,
    reopen_run,
    settings_of,
    show_results,
)
from sasrecllm.errors import ConfigError
from sasrecllm.machine.output import say


@app.command(context_settings=OVERRIDES)
def run(
    context: typer.Context,
    config: ConfigFile = None,
    out: Out = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="print the resolved configuration and stop")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="prepare, time a few steps of each stage, estimate")
    ] = False,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget", help="time that the run may take here (it fits itself): 90s, 15m, 1h30m"
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="lists in a minute; the same command without it goes on from there"
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="replace the run that stands there")] = False,
    quiet: Quiet = False,
) -> None:
    """Data to report in one command; the same command goes on after an interruption.

    Settings are overridden by dotted keys.  Example:

    sasrecllm run --config configs/demo.yaml --out runs/mine seed=1 encoder.width=32
    """
    if dry_run and force:
        raise ConfigError("--dry-run beside --force: an estimate replaces nothing", "leave one out")
    asked = [f"budget={json.dumps(budget)}"] if budget is not None else []
    chosen = settings_of(config, [*context.args, *asked, *(["quick=true"] if quick else [])])
    if print_config:
        print_yaml(chosen)
        return
    with open_run(chosen, out, quiet, force) as opened:
        if dry_run:
            from sasrecllm.pipeline.estimate import estimate

            estimate(opened)
            return
        from sasrecllm.pipeline.run import run_all

        run_all(opened)
    show_results(opened.folder.path)


@app.command(context_settings=OVERRIDES)
def prepare(
    context: typer.Context, config: ConfigFile = None, out: Out = None, quiet: Quiet = False
) -> None:
    """Only read, check, order and split the data.

    sasrecllm prepare --out runs/mine data.source=files data.path=log.csv data.items_path=items.csv
    """
    from sasrecllm.pipeline.prepare import prepare as prepare_data

    with open_run(settings_of(config, context.args), out, quiet) as opened:
        dataset = prepare_data(opened)
    splits = dataset.summary()["splits"].items()
    counted = ", ".join(f"{split} {found['rows']:,}" for split, found in splits)
    say(f"{opened.folder.data}: {len(dataset):,} rows prepared ({counted})")


@app.command(context_settings=OVERRIDES)
def train(
    context: typer.Context, config: ConfigFile = None, out: Out = None, quiet: Quiet = False
) -> None:
    """Data and training without evaluation; ``run`` on the same folder adds the rest.

    sasrecllm train --config configs/demo.yaml --out runs/mine
    """
    from sasrecllm.pipeline.run import train_all

    with open_run(settings_of(config, context.args), out, quiet) as opened:
        train_all(opened)


@app.command(context_settings=OVERRIDES)
def evaluate(
    context: typer.Context, folder: RunFolder, quiet: Quiet = False, allow_plugin: AllowPlugin = None
) -> None:
    """Judge a trained run on the whole test split again and print its table.

    Settings of evaluation may be others than the run was made with, and are the run's from then on.

    sasrecllm evaluate runs/demo evaluation.ranking.users=2000
    """
    from sasrecllm.config import judged_by
    from sasrecllm.pipeline.run import evaluate_again
    from sasrecllm.runs.opening import keep_evaluation
    from sasrecllm.stages.names import check_names

    refuse_flags(context.args, ("--quiet", "--allow-plugin"))
    with reopen_run(folder, quiet, allow_plugin) as opened:
        opened.config = judged_by(opened.config, context.args)
        check_names(opened.config)
        evaluate_again(opened)
        keep_evaluation(opened)
    show_results(folder)


@app.command()
def report(folder: RunFolder, quiet: Quiet = False, allow_plugin: AllowPlugin = None) -> None:
    """Write the plots and the report of an evaluated run again.

    sasrecllm report runs/demo
    """
    from sasrecllm.pipeline.run import report_again

    with reopen_run(folder, quiet, allow_plugin) as opened:
        report_again(opened)
        say(opened.folder.report)


@app.command()
def forget(
    folder: RunFolder,
    user: Annotated[list[str], typer.Option(help="id of a user; repeatable")],
    store: Annotated[
        str | None,
        typer.Option(envvar="SASRECLLM_STORE", help="store of its server; else FOLDER.sqlite, if any"),
    ] = None,
) -> None:
    """Take users out of a finished run and out of the store of its server, for good.

    The weights keep what they learnt of everybody together; training again removes that too.  A
    running server follows at its next SIGHUP; its own DELETE /v1/users/ID needs none.

    sasrecllm forget runs/demo --user u0041 --user u0042
    """
    import contextlib

    from sasrecllm.serving.run import stored
    from sasrecllm.updates.lineage import forget_with_relatives

    opened = stored(folder, store)
    with contextlib.closing(opened) if opened else contextlib.nullcontext():
        forget_with_relatives(folder, user, opened.users_among(user) if opened else ())
        if opened:
            opened.forget(user)
    typer.echo(f"{folder}: forgotten")
