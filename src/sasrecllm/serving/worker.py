"""One process that holds a run: questions in as lines of JSON, answers out as lines of JSON.

It keeps nothing that could be lost, so it may be killed at any time.  It ends when its input does,
which is when the server is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from sasrecllm.errors import SasrecllmError
from sasrecllm.machine.memory import keep_freed_memory, lasting


class Answering:
    """A run, and the run with the items that the server was told.

    Args:
        run: a finished run folder.
    Raises:
        CheckpointError: it is damaged.
    """

    def __init__(self, run: Path) -> None:
        from sasrecllm.inference.recommender import Recommender
        from sasrecllm.inference.requests import NewItem, Title

        self._new_item, self._title = NewItem, Title
        self._own = self._now = Recommender.from_pretrained(run)

    def __call__(self, question: Mapping[str, Any]) -> Any:
        """The answer in plain values (:meth:`sasrecllm.serving.workers.Workers.ask` asks).

        Raises:
            SasrecllmError: the Python API's own refusal.
        """
        if question["call"] == "ping":
            return True
        if question["afresh"]:
            self._now = self._own
        if question["items"]:
            self._now = self._now.with_items([self._new_item(*item) for item in question["items"]])
        asked = dict(question["asked"])
        if asked["history"] is not None:
            asked["history"] = [
                (self._title(text) if is_title else text, liked)
                for text, is_title, liked in asked["history"]
            ]
        if question["call"] in ("recommend", "scored"):
            return [line.to_dict() for line in getattr(self._now, question["call"])(**asked)]
        if question["call"] == "score_items":
            return self._now.score_items(**asked)
        return self._now.explain(**asked).to_dict()


def main(run: Path) -> None:
    """Answer until the input ends; the first line out says that the run is loaded, or why not."""
    # A service manager signals the whole group; the server itself ends its processes when it is done.
    for name in {"SIGINT", "SIGTERM", "SIGHUP"} & set(signal.Signals.__members__):
        signal.signal(signal.Signals[name], signal.SIG_IGN)
    keep_freed_memory()
    # The server may go at any moment; nobody is left to hear of that.
    with contextlib.suppress(BrokenPipeError), os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)  # whatever a library prints must not come between two answers
        loaded: list[Answering] = []
        with lasting():
            _say(out, lambda: loaded.append(Answering(run)))
        if loaded:
            for line in sys.stdin.buffer:
                _say(out, partial(loaded[0], json.loads(line)))


def _say(out: BinaryIO, work: Callable[[], Any]) -> None:
    """Write what ``work`` returns, or how it was refused."""
    try:
        said: dict[str, Any] = {"answer": work()}
    except SasrecllmError as error:
        said = {"refused": [type(error).__name__, error.what, error.remedy]}
    except Exception:  # goes to the server's log; the next question may go well
        said = {"bug": traceback.format_exc()}
    out.write(json.dumps(said).encode() + b"\n")
    out.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
