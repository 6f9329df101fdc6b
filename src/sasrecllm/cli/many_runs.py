"""Verbs of many runs: study and tune."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sasrecllm.cli.shared import (
    OVERRIDES,
    ConfigFile,
    Quiet,
    app,
    refuse_flags,
    settings_of,
)
from sasrecllm.errors import ConfigError
from sasrecllm.machine.output import say


@app.command(context_settings=OVERRIDES)
def study(
    context: typer.Context,
    plan: Annotated[Path, typer.Argument(help="YAML file with data sets, rows and seeds")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="[default: studies/NAME]")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="check every setting and estimate the time")
    ] = False,
    table: Annotated[
        bool, typer.Option("--table", help="only write the table of what is finished, as it was run")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Train and score every row x seed x data set of a plan; the same command goes on.

    sasrecllm study configs/studies/known-world.yaml --out studies/world seeds=[0]
    """
    from sasrecllm.machine.progress import Progress
    from sasrecllm.studies.collect import write_study
    from sasrecllm.studies.plan import load_plan
    from sasrecllm.studies.run import Study, estimate_study, folder_name, run_study

    refuse_flags(context.args, ("--out", "--dry-run", "--table", "--quiet"))
    chosen = load_plan(plan, context.args)
    opened = Study(chosen, plan, out or folder_name(chosen), Progress(quiet=quiet))
    if dry_run:
        estimate_study(opened)
        return
    code = 0 if table else run_study(opened)
    write_study(opened)
    say((opened.out / "study.md").read_text(encoding="utf-8"))
    if code:
        sys.exit(code)  # typer would take its own Exit for the command's answer


@app.command(context_settings=OVERRIDES)
def tune(
    context: typer.Context,
    space: Annotated[Path, typer.Option(help="YAML file: dotted key -> choices, or low and high")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for tune.json and best.yaml")],
    config: ConfigFile = None,
    trials: Annotated[int, typer.Option(min=1, help="finished trials in all")] = 20,
    metric: Annotated[str, typer.Option(help="auc, uauc or auc+uauc, on validation")] = "auc+uauc",
    quiet: Quiet = False,
) -> None:
    """Choose settings on the validation split; the test split is never scored.

    sasrecllm tune --config configs/demo.yaml --space space.yaml --out tuned strategy=encoder-only
    """
    from sasrecllm.machine.progress import Progress
    from sasrecllm.studies.plan import load_space
    from sasrecllm.studies.tune import tune as search

    refuse_flags(context.args, ("--config", "--space", "--out", "--trials", "--metric", "--quiet"))
    if metric not in ("auc", "uauc", "auc+uauc"):
        raise ConfigError(f"--metric is {metric!r}; allowed: auc, uauc, auc+uauc", "choose one")
    chosen, searched = settings_of(config, context.args), load_space(space)
    progress = Progress(quiet=quiet)
    found = search(chosen, searched, out, trials=trials, metric=metric, progress=progress)
    say(f"{out / 'best.yaml'}: {found['best']}, validation {found['valid']}")
