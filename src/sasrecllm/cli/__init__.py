"""The command line: verbs to pipeline functions, refusals to exit codes; no logic of its own.

Heavy packages are imported inside the verbs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import typer

from sasrecllm.cli.ending import end_with, next_command
from sasrecllm.cli.shared import app
from sasrecllm.machine import signals

# isort: off
# Importing a module of verbs puts them into the app; --help shows them in this order.
from sasrecllm.cli import one_run
from sasrecllm.cli import updates
from sasrecllm.cli import lists
from sasrecllm.cli import many_runs
from sasrecllm.cli import service
# isort: on


__all__ = [
    "app",
    "child",
    "lists",
    "main",
    "many_runs",
    "next_command",
    "one_run",
    "service",
    "updates",
]


def main(commands: typer.Typer = app, program: str = "sasrecllm") -> None:
    """Entry point of the command and, with other ``commands``, of programs like it (the bench)."""
    end_with(commands, program)


def child() -> None:
    """Entry point of a process that ends with the one which started it (a study's cell)."""
    signals.end_with_parent()
    main()
