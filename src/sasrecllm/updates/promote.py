"""What is served next: a link that names a run, moved from the run before to the run after it.

A server that was started on the link takes the run that it names at the next reload.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from sasrecllm.errors import ConfigError, did_you_mean
from sasrecllm.machine.os_errors import as_refusals

CURRENT = "current"
Promote = Literal["auto", "always", "never"]
PROMOTE: tuple[Promote, ...] = ("auto", "always", "never")


def link_of(run: Path, out: Path) -> Path:
    """The link that an update moves: the one by which the run was named, else ``current`` beside it.

    Raises:
        ConfigError: something that is no link stands there.
    """
    link = run if run.is_symlink() else out.parent / CURRENT
    if link.exists() and not link.is_symlink():
        raise ConfigError(
            f"{link} is no link, so it cannot be pointed at the new run",
            "move it away, or give --promote never",
        )
    return link


def checked(promote: str, where: str) -> Promote:
    """The word, which must be one of :data:`PROMOTE`.

    Args:
        where: how its user names it: ``--promote``, ``promote``.

    Raises:
        ConfigError: it is none.
    """
    if promote not in PROMOTE:
        near = did_you_mean(str(promote), PROMOTE)
        raise ConfigError(
            f"{where} is {promote!r}; allowed: {', '.join(PROMOTE)}{near}", "choose one of these"
        )
    return promote


def wanted(promote: Promote, found: Mapping[str, Any]) -> bool:
    """Whether the run is to be served, by what :func:`.judge.before_after` found."""
    return promote == "always" or (promote == "auto" and not found["worse"])


def point(link: Path, run: Path) -> None:
    """Let ``link`` name ``run``, at once: whoever looks sees the old run or the new one.

    Raises:
        ResourceError, ConfigError: it cannot be written.
    """
    target = os.path.relpath(run.resolve(), link.parent.resolve())
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    with as_refusals(link):
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target, target_is_directory=True)
        os.replace(temporary, link)
