"""The model in processes of its own, so that several requests are answered at once.

Threads would not do: they wait for each other, at the interpreter's lock and at the process's memory
(docs/serving.md has figures).  Nothing but JSON passes between the server and its processes.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import queue
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sasrecllm import errors
from sasrecllm.data.catalog import Catalog
from sasrecllm.data.dataset import Dataset
from sasrecllm.inference.requests import Entry, NewItem, Recommendation, Scored, Title, pairs_of
from sasrecllm.serving.process import AddedItems, Process, end
from sasrecllm.serving.queueing import Overloaded

MOST = 4
"""Processes without being asked for more: each holds the run."""
SECONDS = 30.0
"""For one answer; a process that takes longer hangs."""
MOMENT = 1.0
"""Seconds in which a process goes from one question to the next, on a machine however busy."""
COMMAND = (sys.executable, "-P", "-m", "sasrecllm.serving.worker")  # -P: nothing of the current folder
T = TypeVar("T")
log = logging.getLogger("sasrecllm.serving")


def default_workers() -> int:
    """One for each core, up to ``MOST``; a GPU is not shared."""
    from sasrecllm.machine.device import has_nvidia_device

    return 1 if has_nvidia_device() else max(1, min(MOST, cores()))


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """``count`` processes that have loaded ``run``; they end when nobody refers to them any more.

    ``model`` names its trained parts.

    Args:
        run: a finished run folder.
        count: questions that are answered at the same time; the cores are shared out among them.
        seconds: after which a process that does not answer is replaced.
    Raises:
        CheckpointError: the run is damaged.
    """

    def __init__(self, run: Path, count: int, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self._run, self._threads = run, max(1, cores() // count)
        self._idle: queue.SimpleQueue[Process] = queue.SimpleQueue()
        self._all: list[Process] = []
        self._end = weakref.finalize(self, end, self._all)
        for _ in range(count):
            self._all.append(Process(COMMAND, run, self._threads))
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

    def ask(self, added: AddedItems | None, call: str, asked: dict[str, Any]) -> Any:
        """What ``Recommender.call(**asked)`` answers with the items in ``added``.

        Raises:
            SasrecllmError: the Python API's own refusal.
            Overloaded: the process died or hung, and another one takes its place if the run is still
                the same; or there was none to ask.
        """
        try:
            process = self._idle.get(timeout=self.seconds)
        except queue.Empty:
            raise Overloaded("process died", 5) from None
        if not process.lives:
            process = self._replaced(process)
        try:
            items, afresh = _missing(added, process.added)
            process.added = None  # until it has answered nobody knows
            question = {"call": call, "asked": asked, "items": items, "afresh": afresh}
            answer = process.ask(question, self.seconds)
            process.added = added
            return answer
        except BrokenPipeError as error:
            log.error("%s", error)
            raise Overloaded("process died", 5) from None
        finally:
            self._give_back(process)

    def ready(self) -> bool:
        """Whether a process can answer; takes up to ``seconds`` to find out.

        One can that works on a question and is not late with it (a third of ``seconds``), or that
        is idle and says so.  One that died or does not say so is replaced.
        """
        said: set[Future[bool]] = set()
        ends = time.monotonic() + MOMENT
        while said or time.monotonic() < ends:  # one may be on its way from one question to the next
            moment = time.monotonic() - self.seconds / 3
            if any(process.works_since(moment) for process in list(self._all)):
                return True
            with contextlib.suppress(queue.Empty):
                while True:
                    said.add(_in_thread(self._speaks, self._idle.get_nowait()))
            if not said:
                time.sleep(MOMENT / 20)
            done, said = wait(said, MOMENT / 20, return_when=FIRST_COMPLETED)
            if any(one.result() for one in done):
                return True
        return False

    def _speaks(self, process: Process) -> bool:
        try:
            return bool(process.ask({"call": "ping"}, self.seconds, counts=False))
        except BrokenPipeError as error:
            log.error("%s", error)
            return False
        finally:
            self._give_back(process)

    def _give_back(self, process: Process) -> None:
        """Let others ask it; a dead one is replaced first, which nobody waits for."""
        if process.lives:
            self._idle.put(process)
        else:
            _in_thread(self._replaced, process, back=True)

    def _replaced(self, dead: Process, back: bool = False) -> Process:
        """Another process in place of a dead one, which stays for the next try where that fails.

        Args:
            back: let others ask the new one.
        """
        fresh = None
        try:
            if run_digest(self._run) != self.model:
                raise Overloaded("run changed", 30)
            fresh = Process(COMMAND, self._run, self._threads)
            fresh.receive()
            self._all[self._all.index(dead)] = fresh
        except Exception as error:
            self._idle.put(dead)
            if fresh is not None:
                end([fresh])
            if isinstance(error, Overloaded):
                raise
            log.error("a model process cannot be replaced: %s", error)
            raise Overloaded("process died", 30) from None
        end([dead])
        if back:
            self._idle.put(fresh)
        return fresh


def _in_thread(work: Callable[..., T], *given: Any, **more: Any) -> Future[T]:
    """``work`` on a thread that does not keep the server from ending."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work(*given, **more))
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def run_digest(folder: Path) -> str:
    """Twelve hex digits that name the trained parts of a run: SHA-256 over their manifests."""
    summed = hashlib.sha256()
    for manifest in sorted(folder.rglob("MANIFEST.sha256")):
        summed.update(manifest.relative_to(folder).as_posix().encode() + manifest.read_bytes())
    return summed.hexdigest()[:12]


def _missing(wanted: AddedItems | None, has: AddedItems | None) -> tuple[list[Any], bool]:
    """The items that a process lacks, and whether it must begin afresh with them."""
    links, at = [], wanted
    while at is not None and at is not has:
        links.append(at.items)
        at = at.before
    items = [[i.item_id, i.title, dict(i.attributes)] for new in reversed(links) for i in new]
    return items, at is None


@dataclass(frozen=True)
class Plain:
    """An answer in plain values."""

    values: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return self.values


@dataclass(frozen=True, eq=False)
class RemoteSystem:
    """A run in other processes, with the methods of ``Recommender`` that the server needs."""

    workers: Workers
    catalog: Catalog
    dataset: Dataset
    added: AddedItems | None = None

    def recommend(self, **asked: Any) -> list[Recommendation]:
        """See :meth:`sasrecllm.inference.recommender.Recommender.recommend`."""
        lines = self._ask("recommend", asked)
        return [Recommendation(**line | {"flags": tuple(line["flags"])}) for line in lines]

    def score_items(self, items: Sequence[str], **asked: Any) -> list[float]:
        """See :meth:`sasrecllm.inference.recommender.Recommender.score_items`."""
        return list(self._ask("score_items", asked | {"items": list(items)}))

    def scored(self, items: Sequence[str], **asked: Any) -> list[Scored]:
        """See :meth:`sasrecllm.inference.recommender.Recommender.scored`."""
        lines = self._ask("scored", asked | {"items": list(items)})
        return [Scored(**line | {"flags": tuple(line["flags"])}) for line in lines]

    def explain(self, item: str, **asked: Any) -> Plain:
        """See :meth:`sasrecllm.inference.recommender.Recommender.explain`."""
        return Plain(self._ask("explain", asked | {"item": item}))

    def with_items(self, items: Sequence[NewItem]) -> RemoteSystem:
        """The same system over a catalogue with ``items`` at its end.

        Raises:
            DataError: an id is known already, or an id or a title is empty.
        """
        catalog = self.catalog.extended(
            [i.item_id for i in items], [i.title for i in items], [i.attributes for i in items]
        )
        return RemoteSystem(self.workers, catalog, self.dataset, AddedItems(tuple(items), self.added))

    def _ask(self, call: str, asked: dict[str, Any]) -> Any:
        history: Sequence[Entry] | None = asked.get("history")
        plain = None if history is None else [_plain(*pair) for pair in pairs_of(history)]
        return self.workers.ask(self.added, call, asked | {"history": plain})


def _plain(entry: str | Title, liked: bool) -> tuple[str, bool, bool]:
    """Text, whether it is a title, whether it was liked."""
    return (entry.text, True, liked) if isinstance(entry, Title) else (entry, False, liked)
