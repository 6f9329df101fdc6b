"""A process that was forked from one with a loaded run cannot ask it: the threads did not come along.

polars waits for its threads for ever there, and torch may.  Who forks before anything is loaded is free
to load in each process.
"""

from __future__ import annotations

import os

from sasrecllm.errors import EnvironmentRefusal

_loaded = False
_forked = False


def note_loaded() -> None:
    """Remember that this process has a loaded run."""
    global _loaded
    _loaded = True


def refuse_fork() -> None:
    """Refuse to go on in a fork of a process that had loaded a run.

    Raises:
        EnvironmentRefusal: this is one.
    """
    if _forked:
        raise EnvironmentRefusal(
            "this process was forked from one that had loaded a run, and the threads which score and"
            " read do not survive a fork",
            "start processes by multiprocessing.get_context('spawn') and load the run in each of them,"
            " or fork before anything is loaded",
        )


def _after_fork() -> None:
    global _forked
    _forked = _loaded


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
