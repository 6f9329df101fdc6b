"""One process of the model, from the server's side: questions and answers, each within its time."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sasrecllm import errors
from sasrecllm.inference.requests import NewItem
from sasrecllm.serving.security import KEY_VARIABLE


class AddedItems(NamedTuple):
    """Items beside those of a run: the last that came, and all before; None where none did."""

    items: Sequence[NewItem]
    before: AddedItems | None


class Process:
    """One process (:mod:`sasrecllm.serving.worker`), its added items, and since when it works."""

    def __init__(self, command: Sequence[str], run: Path, threads: int) -> None:
        environment = {"OMP_NUM_THREADS": str(threads)} | os.environ
        environment.pop(KEY_VARIABLE, None)
        self.added: AddedItems | None = None
        self.since: float | None = None
        self.process = subprocess.Popen(
            [*command, str(run)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            process_group=0,  # Ctrl-C is for the server alone
        )

    @property
    def lives(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def works_since(self, moment: float) -> bool:
        """Whether it works on a question that was asked after ``moment``."""
        since = self.since
        return self.lives and since is not None and since > moment

    def ask(self, question: dict[str, Any], seconds: float, counts: bool = True) -> Any:
        """The answer to a question; after so many seconds without one the process is ended.

        Args:
            counts: as work.
        Raises:
            SasrecllmError: the process's own refusal.
            BrokenPipeError: the process is dead.
        """
        hangs = threading.Event()

        def give_up() -> None:
            hangs.set()
            self.process.kill()  # ends one that is stopped, too

        clock = threading.Timer(seconds, give_up)
        clock.daemon = True
        clock.start()
        self.since = time.monotonic() if counts else None
        try:
            self._send(question)
            return self.receive()
        except BrokenPipeError:
            self.process.kill()
            self.process.wait()
            if hangs.is_set():
                raise BrokenPipeError(f"a model process gave no answer in {seconds:g} s") from None
            raise
        finally:
            self.since = None
            clock.cancel()

    def _send(self, question: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(question).encode() + b"\n")
        self.process.stdin.flush()

    def receive(self) -> Any:
        """The next answer.

        Raises:
            SasrecllmError: the process's own refusal.
            BrokenPipeError: the process is dead.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.endswith(b"\n"):
            self.process.kill()
            raise BrokenPipeError(f"a model process ended with code {self.process.wait()}")
        said = json.loads(line)
        if "refused" in said:
            name, what, remedy = said["refused"]
            kind = getattr(errors, name)
            refusal = kind.__new__(kind, what, remedy)  # some kinds make their remedy themselves
            errors.SasrecllmError.__init__(refusal, what, remedy)
            raise refusal
        if "bug" in said:
            raise RuntimeError(said["bug"])
        return said["answer"]


def end(processes: Sequence[Process]) -> None:
    """End processes at once, whatever they do."""
    for process in processes:
        process.process.kill()
    for process in processes:
        process.process.wait()
        for pipe in (process.process.stdin, process.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
