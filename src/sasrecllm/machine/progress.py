"""One line of progress with the time that is left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from sasrecllm.machine import output, signals
from sasrecllm.machine.distributed import is_main_process

Tell = Callable[[int, int], None]
"""Is called with (done, all) after every part of a loop."""


def readable_seconds(seconds: float) -> str:
    """A duration for people.

    >>> readable_seconds(75), readable_seconds(3.21)
    ('1:15', '3.2 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Progress:
    """One line of progress with an ETA: redrawn on a terminal, a line every 15 s elsewhere.

    Args:
        write: where finished lines go (the run's log); None for stderr only.
        quiet: print nothing to the terminal.
    """

    def __init__(self, write: Callable[[str], None] | None = None, quiet: bool = False) -> None:
        self._write = write
        self._quiet = quiet or not is_main_process()
        self._tty = sys.stderr is not None and sys.stderr.isatty()
        self._last = self._started = 0.0
        self._first = 0

    def line(self, text: str, *, keep: bool = True) -> None:
        """One finished line, to the terminal and, to ``keep`` it, to the log."""
        signals.check()
        if keep and self._write is not None and is_main_process():
            self._write(text)
        if not self._quiet:
            clear = "\r\x1b[K" if self._tty else ""
            output.say(clear + text, error=True)

    def warning(self, text: str) -> None:
        """A finished line that is shown on a quiet terminal too."""
        quiet, self._quiet = self._quiet, not is_main_process()
        self.line(f"warning: {text}")
        self._quiet = quiet

    def start(self, done: int = 0) -> None:
        """Begin a new bar; ``done`` units stand already (a resumed stage)."""
        self._started = self._last = time.monotonic()
        self._first = done

    def report(self, what: str, done: int, total: int) -> None:
        """:meth:`step` for who has no bar to begin: one begins where nothing is done yet."""
        if not done:
            self.start()
        self.step(what, done, total)

    def bar(self, what: str) -> Tell:
        """Begin a new bar, and what to call with (done, all) as it goes on."""
        self.start()
        return lambda done, total: self.step(what, done, total)

    def step(self, what: str, done: int, total: int, extra: Mapping[str, Any] | None = None) -> None:
        """Say that ``done`` of ``total`` units are finished; a stop that got lost is heard here."""
        signals.check()
        now = time.monotonic()
        if self._quiet or now - self._last < (0.2 if self._tty else 15.0):
            return
        self._last = now
        rate = (now - self._started) / max(1, done - self._first)
        values = "".join(f"  {k} {v:.4f}" for k, v in (extra or {}).items())
        text = f"{what} {done}/{total}{values}  ETA {readable_seconds(rate * (total - done))}"
        line, end = (f"\r\x1b[K{text}", "") if self._tty else (text, "\n")
        output.say(line, error=True, end=end)
