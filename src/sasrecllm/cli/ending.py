"""How a command ends: its exit code, what is said of a refusal, and what to do after a stop."""

from __future__ import annotations

import shlex
import sys

import typer

from sasrecllm import plugins
from sasrecllm.machine import output, signals
from sasrecllm.machine.distributed import is_main_process, process_count
from sasrecllm.machine.os_errors import refusal
from sasrecllm.machine.output import say

STOPPED = {130: "interrupted", 143: "stopped by SIGTERM"}
GO_ON = ("run", "update", "prepare", "train", "study", "tune", "merge")


def end_with(commands: typer.Typer, program: str) -> None:
    """Entry point: exit codes as in ``errors``; a traceback only for our own bugs.

    Args:
        commands: the verbs.
        program: how a person calls them, for the message after a stop.
    """
    output.prepare()
    with signals.handled():
        code = _ended(commands, program)
    sys.exit(code)


def _ended(commands: typer.Typer, program: str) -> int:
    """Run the verb and say how it ended where that was not well; its exit code."""
    try:
        # typer turns Ctrl-C, and its own ways out, into a code that it returns.
        with plugins.at_work(plugins.allowed_by_then()):
            answer = commands(standalone_mode=False)
        say("", end="")  # what stands in the buffer, while a full disk can still be told
        code = answer if isinstance(answer, int) else 0
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # which typer would call a failure
            code = 0
        else:
            code = ended.code if isinstance(ended.code, int) else 1
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:
        code = 0
    except BaseException as error:
        code = _refused(error)
    if code in STOPPED and is_main_process():
        say(f"{STOPPED[code]}; {next_command(sys.argv[1:], program)}", error=True)
    for stream in (sys.stdout, sys.stderr):
        output.flush(stream)
    return code


def _refused(error: BaseException) -> int:
    """Say why a verb was refused; what is not a refusal is a bug of ours and is raised."""
    # A misspelt flag is the parser's own exception; it knows how to show itself and its code.
    show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if show is not None and code is not None:
        show()
        return int(code)
    found = refusal(error)
    if found is None:
        raise error
    say(f"error: {found}", error=True)
    return found.exit_code


def next_command(words: list[str], program: str = "sasrecllm") -> str:
    """What to do after a stop, for the words of the command that was stopped."""
    kept = [word for word in words if word != "--force"]  # which would throw away what is kept
    if process_count() > 1:
        return "the same torchrun command goes on from the last checkpoint"
    goes_on = words[:1] and (words[0] in GO_ON or "--users" in words)
    done = "goes on from the last checkpoint" if goes_on else "begins again"
    same = "the same command" + (" without --force" if kept != words else "")
    return f"{same} {done}:\n  -> {program} {shlex.join(kept)}"
