"""The model in processes of its own, so that several requests are answered at once.

Threads would not do: they wait for each other, at the interpreter's lock and at the process's memory
(docs/serving.md has figures).  Nothing but JSON passes between the server and its processes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import queue
import subprocess
import sys
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sasrecllm import errors
from sasrecllm.data.catalog import Catalog
from sasrecllm.data.dataset import Dataset
from sasrecllm.inference.entries import Entry, NewItem, Recommendation, Title, pairs_of
from sasrecllm.serving.queueing import Overloaded
from sasrecllm.serving.security import KEY_VARIABLE

MOST = 4
"""Processes without being asked for more: each holds the run."""
COMMAND = (sys.executable, "-P", "-m", "sasrecllm.serving.worker")  # -P: nothing of the current folder
log = logging.getLogger("sasrecllm.serving")


def default_workers() -> int:
    """One for each core, up to ``MOST``; a GPU is not shared."""
    from sasrecllm.runtime import has_nvidia_device

    return 1 if has_nvidia_device() else max(1, min(MOST, cores()))


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Told(NamedTuple):
    """New items, and those that came before them; None at the beginning."""

    items: Sequence[NewItem]
    before: Told | None


class _Process:
    """One process (:mod:`sasrecllm.serving.worker`) and what it was told so far."""

    def __init__(self, run: Path, threads: int) -> None:
        environment = {"OMP_NUM_THREADS": str(threads)} | os.environ
        environment.pop(KEY_VARIABLE, None)
        self.told: Told | None = None
        self.process = subprocess.Popen(
            [*COMMAND, str(run)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            process_group=0,  # Ctrl-C is for the server alone
        )

    def send(self, question: dict[str, Any]) -> None:
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


class Workers:
    """``count`` processes that have loaded ``run``; they end when nobody refers to them any more.

    ``model`` names its trained parts.

    Args:
        run: a finished run folder.
        count: questions that are answered at the same time; the cores are shared out among them.
    Raises:
        CheckpointError: the run is damaged.
    """

    def __init__(self, run: Path, count: int) -> None:
        self._run, self._threads = run, max(1, cores() // count)
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self._all: list[_Process] = []
        self._end = weakref.finalize(self, _kill, self._all)
        for _ in range(count):
            self._all.append(_Process(run, self._threads))
        try:
            for process in self._all:  # they load side by side
                process.receive()
                self._idle.put(process)
        except BrokenPipeError as error:
            self._end()
            raise errors.ResourceError(
                f"{error} while it loaded {run}", "see its log; give it more memory or fewer --workers"
            ) from None
        except BaseException:
            self._end()
            raise
        self.model = run_digest(run)

    def ask(self, told: Told | None, call: str, asked: dict[str, Any]) -> Any:
        """What ``SASRecLLM.call(**asked)`` answers with the items in ``told``.

        Raises:
            SasrecllmError: the Python API's own refusal.
            Overloaded: the process died; another one takes its place at the next question, if the run
                is still the same.
        """
        process = self._idle.get()
        try:
            if process.process.poll() is not None:
                process = self._replaced(process)
            items, afresh = _missing(told, process.told)
            process.told = None  # until it has answered nobody knows
            process.send({"call": call, "asked": asked, "items": items, "afresh": afresh})
            answer = process.receive()
            process.told = told
            return answer
        except BrokenPipeError as error:
            log.error("%s", error)
            raise Overloaded("process died", 5) from None
        finally:
            self._idle.put(process)

    def _replaced(self, dead: _Process) -> _Process:
        if run_digest(self._run) != self.model:
            raise Overloaded("run changed", 30)
        fresh = _Process(self._run, self._threads)
        try:
            fresh.receive()
        except (BrokenPipeError, errors.SasrecllmError) as error:
            _kill([fresh])
            log.error("a model process cannot be replaced: %s", error)
            raise Overloaded("process died", 30) from None
        self._all[self._all.index(dead)] = fresh
        return fresh


def run_digest(folder: Path) -> str:
    """Twelve hex digits that name the trained parts of a run: SHA-256 over their manifests."""
    summed = hashlib.sha256()
    for manifest in sorted(folder.rglob("MANIFEST.sha256")):
        summed.update(manifest.relative_to(folder).as_posix().encode() + manifest.read_bytes())
    return summed.hexdigest()[:12]


def _missing(wanted: Told | None, known: Told | None) -> tuple[list[Any], bool]:
    """The items that a process lacks, and whether it must begin afresh with them."""
    links, at = [], wanted
    while at is not None and at is not known:
        links.append(at.items)
        at = at.before
    items = [[i.item_id, i.title, dict(i.attributes)] for new in reversed(links) for i in new]
    return items, at is None


def _kill(processes: Sequence[_Process]) -> None:
    for process in processes:
        process.process.kill()
    for process in processes:
        process.process.wait()
        for pipe in (process.process.stdin, process.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


@dataclass(frozen=True)
class Plain:
    """An answer in plain values."""

    values: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return self.values


@dataclass(frozen=True, eq=False)
class RemoteSystem:
    """A run in other processes, with the methods of ``SASRecLLM`` that the server needs."""

    workers: Workers
    catalog: Catalog
    dataset: Dataset
    told: Told | None = None

    def recommend(self, **asked: Any) -> list[Recommendation]:
        """See :meth:`sasrecllm.inference.recommender.SASRecLLM.recommend`."""
        lines = self._ask("recommend", asked)
        return [Recommendation(**line | {"flags": tuple(line["flags"])}) for line in lines]

    def score_items(self, items: Sequence[str], **asked: Any) -> list[float]:
        """See :meth:`sasrecllm.inference.recommender.SASRecLLM.score_items`."""
        return list(self._ask("score_items", asked | {"items": list(items)}))

    def explain(self, item: str, **asked: Any) -> Plain:
        """See :meth:`sasrecllm.inference.recommender.SASRecLLM.explain`."""
        return Plain(self._ask("explain", asked | {"item": item}))

    def with_items(self, items: Sequence[NewItem]) -> RemoteSystem:
        """The same system over a catalogue with ``items`` at its end.

        Raises:
            DataError: an id is known already, or an id or a title is empty.
        """
        catalog = self.catalog.extended(
            [i.item_id for i in items], [i.title for i in items], [i.attributes for i in items]
        )
        return RemoteSystem(self.workers, catalog, self.dataset, Told(tuple(items), self.told))

    def _ask(self, call: str, asked: dict[str, Any]) -> Any:
        history: Sequence[Entry] | None = asked.get("history")
        plain = None if history is None else [_plain(*pair) for pair in pairs_of(history)]
        return self.workers.ask(self.told, call, asked | {"history": plain})


def _plain(entry: str | Title, liked: bool) -> tuple[str, bool, bool]:
    """Text, whether it is a title, whether it was liked."""
    return (entry.text, True, liked) if isinstance(entry, Title) else (entry, False, liked)
