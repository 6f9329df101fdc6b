"""What the verbs share: the app, their options, how a run is opened, what is left over."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sasrecllm import plugins
from sasrecllm.errors import ConfigError, did_you_mean
from sasrecllm.machine.output import say

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="SASRec, a LoRA-tuned language model and soft tokens between them.",
)

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="YAML file with what differs from the defaults"),
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="run folder [default: runs/NAME where a name is set]")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress on the terminal")]
AllowPlugin = Annotated[
    list[str] | None,
    typer.Option("--allow-plugin", help="module that the run names and may import; repeatable"),
]
RunFolder = Annotated[Path, typer.Argument(help="a finished run folder")]
OVERRIDES = {"allow_extra_args": True, "ignore_unknown_options": True}
FLAGS = (
    "--config", "--out", "--print-config", "--dry-run", "--budget", "--quick", "--force", "--quiet",
)  # fmt: skip
FORMER_FLAGS = {"--resume": "leave it out: the same command goes on where the run stopped"}


def settings_of(path: Path | None, overrides: list[str]) -> Any:
    """The checked settings of a file and of ``key=value`` words."""
    from sasrecllm.config import load_config

    refuse_flags(overrides, FLAGS)
    return load_config(path, overrides)


def refuse_flags(words: list[str], allowed: tuple[str, ...]) -> None:
    """What is left over and looks like a flag is a misspelt one."""
    for word in words:
        if word in FORMER_FLAGS:
            raise ConfigError(f"there is no flag {word} any more", FORMER_FLAGS[word])
        if word.startswith("-") and "=" not in word:
            raise ConfigError(
                f"unknown flag {word}; allowed: {', '.join(allowed)}{did_you_mean(word, allowed)}",
                "settings are written as section.key=value",
            )


def open_run(config: Any, out: Path | None, quiet: bool, force: bool = False) -> Any:
    """The run folder of ``out`` or of the settings' name, for this process alone."""
    from sasrecllm.machine.command import own_command
    from sasrecllm.runs.opening import run_at_work
    from sasrecllm.stages.names import check_names

    if out is None and not config.name:
        raise ConfigError(
            "where the run goes is not said: there is no --out, and the settings have no name",
            "give --out runs/mine, or name=mine for the folder runs/mine",
        )
    check_names(config)  # a misspelt name leaves no folder behind, and deletes none
    out = out or Path("runs") / config.name
    return run_at_work(out, config, own_command(), quiet=quiet, force=force)


def reopen_run(folder: Path, quiet: bool, allow_plugin: list[str] | None) -> Any:
    """A run that was trained before, with its own settings, for this process alone."""
    from sasrecllm.runs.opening import run_again

    plugins.allow(allow_plugin or ())
    return run_again(folder, quiet=quiet)


def print_yaml(config: Any) -> None:
    """The resolved settings as YAML."""
    import yaml

    say(yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True), end="")


def show_results(folder: Path) -> None:
    """The results table of a run."""
    from sasrecllm.reports.console import print_results

    print_results(folder)
