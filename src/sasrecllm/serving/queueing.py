"""A bounded queue before the model, and as many threads as there are processes to answer.

Each thread takes one request at a time and waits for its answer, so an idle model answers at once and
a busy one is asked in the order in which requests came.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

Handler = Callable[[str, Any], Any]
"""(kind, request) -> answer; raises what the request is refused with."""


class Overloaded(Exception):
    """The queue is full, the time is over or a process died; ``retry_after`` in whole seconds."""

    def __init__(self, reason: str, retry_after: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    kind: str
    request: Any
    future: Future[Any] = field(default_factory=Future)
    # The thread's log lines are the request's: they carry its id.
    context: contextvars.Context = field(default_factory=contextvars.copy_context)


class ModelQueue:
    """Runs ``handle`` on threads of its own.

    Args:
        handle: called by several threads at once.
        size: requests that may wait; one more is refused.
        threads: requests that are answered at the same time.
        on_taken: called for every request that a thread takes.
    """

    def __init__(
        self,
        handle: Handler,
        size: int = 64,
        threads: int = 1,
        on_taken: Callable[[], None] = lambda: None,
    ) -> None:
        self._handle, self._on_taken = handle, on_taken
        self._queue: queue.Queue[_Job | None] = queue.Queue(size)
        self._seconds = 0.05  # running mean for one request
        # Daemons: a call that never ends must not keep the process from ending.
        self._threads = [
            threading.Thread(target=self._work, name=f"model {n}", daemon=True) for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def depth(self) -> int:
        """Requests that wait."""
        return self._queue.qsize()

    def submit(self, kind: str, request: Any) -> Future[Any]:
        """Put one request into the queue.

        Raises:
            Overloaded: the queue is full.
        """
        job = _Job(kind, request)
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            raise Overloaded("queue full", self.retry_after()) from None
        return job.future

    async def answer(self, kind: str, request: Any, timeout: float) -> Any:
        """The answer to one request; what waits longer than ``timeout`` seconds is dropped.

        Raises:
            Overloaded: the queue is full, or the time is over.
        """
        future = asyncio.wrap_future(self.submit(kind, request))
        try:
            return await asyncio.wait_for(future, timeout)
        except TimeoutError:
            raise Overloaded("timeout", self.retry_after()) from None

    def retry_after(self) -> int:
        """Seconds until the queue is empty, as far as one can tell; at least 1, at most 30."""
        seconds = self._seconds * (self.depth + 1) / len(self._threads)
        return max(1, min(30, math.ceil(seconds)))

    def close(self, timeout: float = 1.0) -> None:
        """Answer what waits, then end; gives up waiting for it after ``timeout`` seconds."""
        ends = time.monotonic() + timeout
        try:
            for _ in self._threads:
                self._queue.put(None, timeout=max(0.0, ends - time.monotonic()))
        except queue.Full:
            return
        for thread in self._threads:
            thread.join(max(0.0, ends - time.monotonic()))

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            # A request whose client went away, or whose time is over, was cancelled while it waited.
            if job.future.set_running_or_notify_cancel():
                self._run(job)
            del job  # while it waits, a thread must not hold on to a run that was replaced

    def _run(self, job: _Job) -> None:
        self._on_taken()
        started = time.monotonic()
        try:
            answer = job.context.run(self._handle, job.kind, job.request)
        except Exception as error:  # the thread outlives every bug; the request carries it out
            job.future.set_exception(error)
        else:
            job.future.set_result(answer)
        self._seconds += 0.1 * (time.monotonic() - started - self._seconds)
