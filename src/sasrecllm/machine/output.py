"""Standard output and error: nothing about them may end a run that is finished otherwise."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import TextIO

GONE = (errno.EPIPE, errno.EBADF)


def prepare() -> None:
    """Make the three streams usable: closed ones lead nowhere, what an encoding lacks is spelt out."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed: the next file opened would get its number
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def say(text: object, *, error: bool = False, end: str = "\n") -> None:
    """Print ``text``; a reader who has left is not told, and does not end the program.

    Args:
        error: to standard error, which may fail in any way: what is said there is not the work.

    Raises:
        OSError: standard output cannot be written for another reason (a full disk).
    """
    stream = sys.stderr if error else sys.stdout
    if stream is None:
        return
    try:
        print(text, file=stream, end=end, flush=True)
    except OSError as fault:
        if not error and fault.errno not in GONE:
            fault.filename = "standard output"
            raise
        silence(stream)
    except ValueError:  # closed under our hands
        pass


class Output(io.TextIOBase):
    """Standard output by way of :func:`say`, for a library that wants a file."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """What standard output is written in."""
        return getattr(sys.stdout, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether a person looks at a terminal."""
        return sys.stdout is not None and sys.stdout.isatty()

    def write(self, text: str) -> int:
        """Print ``text`` as it is."""
        if text:
            say(text, end="")
        return len(text)


def flush(stream: TextIO) -> None:
    """Write out what is buffered; where that cannot be, forget it, so that the exit code stays."""
    try:
        stream.flush()
    except (OSError, ValueError):
        silence(stream)


def is_unicode(stream: TextIO) -> bool:
    """Whether every character can be written to ``stream`` as it is."""
    return (getattr(stream, "encoding", None) or "").lower().replace("-", "").startswith("utf")


def silence(stream: TextIO) -> None:
    """Let what is still written to ``stream`` lead nowhere, what stands in its buffer included."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
