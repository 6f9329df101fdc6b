"""One thread for the model, a bounded queue before it, and batches of what waits there.

The model is never called by two threads.  While it works, requests of one kind pile up and go
in together afterwards; an idle model answers at once, so no request waits for company.
"""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

Handler = Callable[[str, Sequence[Any]], Sequence[Any]]
"""(kind, requests of that kind) -> one answer or one exception each, in order."""


class Overloaded(Exception):
    """The queue is full or the time is over; ``retry_after`` in whole seconds."""

    def __init__(self, reason: str, retry_after: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    kind: str
    request: Any
    future: Future[Any] = field(default_factory=Future)


class ModelThread:
    """Runs ``handle`` on a thread of its own.

    Args:
        handle: called with requests of one kind, never by two threads at once.
        size: requests that may wait; one more is refused.
        most: the largest batch.
        on_batch: told the size of every batch.
    """

    def __init__(
        self,
        handle: Handler,
        size: int = 64,
        most: int = 16,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._handle, self._most, self._on_batch = handle, most, on_batch
        self._queue: queue.Queue[_Job | None] = queue.Queue(size)
        self._held: _Job | None = None
        self._seconds = 0.05  # running mean for one request
        # A daemon: a call that never ends must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

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
        return max(1, min(30, math.ceil(self._seconds * (self.depth + 1))))

    def close(self, timeout: float = 1.0) -> None:
        """Answer what waits, then end; gives up waiting for it after ``timeout`` seconds."""
        try:
            self._queue.put(None, timeout=timeout)
        except queue.Full:
            return
        self._thread.join(timeout)

    def _work(self) -> None:
        while (batch := self._next_batch()) is not None:
            # A request whose client went away, or whose time is over, was cancelled while it waited.
            batch = [job for job in batch if job.future.set_running_or_notify_cancel()]
            if not batch:
                continue
            self._on_batch(len(batch))
            started = time.monotonic()
            answers = self._answers(batch)
            each = (time.monotonic() - started) / len(batch)
            self._seconds += 0.1 * (each - self._seconds)
            for job, answer in zip(batch, answers, strict=True):
                if isinstance(answer, BaseException):
                    job.future.set_exception(answer)
                else:
                    job.future.set_result(answer)

    def _answers(self, batch: list[_Job]) -> Sequence[Any]:
        try:
            answers = self._handle(batch[0].kind, [job.request for job in batch])
            if len(answers) != len(batch):
                raise AssertionError(f"{len(answers)} answers to {len(batch)} requests")
            return answers
        except Exception as error:  # the thread must outlive every bug; the requests carry it out
            return [error] * len(batch)

    def _next_batch(self) -> list[_Job] | None:
        """The request that waits longest and those of its kind right behind it; None at the end."""
        first = self._held or self._queue.get()
        self._held = None
        if first is None:
            return None
        batch = [first]
        while len(batch) < self._most:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._queue.put(None)
                break
            if job.kind != first.kind:
                self._held = job
                break
            batch.append(job)
        return batch
