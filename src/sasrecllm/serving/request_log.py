"""The id of a request, which its answer, its error, its log lines and its metrics share."""

from __future__ import annotations

import logging
import re
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

WELL_FORMED = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_current: ContextVar[str] = ContextVar("request", default="")
log = logging.getLogger("sasrecllm.serving")


@contextmanager
def answering(headers: Mapping[bytes, bytes]) -> Iterator[str]:
    """A request that is answered in the block; gives its id: ``X-Request-ID`` if well formed, else new.

    Args:
        headers: of the request, names in lower case.
    """
    given = headers.get(b"x-request-id", b"")
    name = given.decode() if WELL_FORMED.fullmatch(given) else uuid.uuid4().hex
    token = _current.set(name)
    try:
        yield name
    finally:
        _current.reset(token)


def current() -> str:
    """The id of the request that is being answered here; empty where none is."""
    return _current.get()


class Lines(logging.Formatter):
    """Lines that end with the id of the request that they were written for, if there is one."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line, before a traceback."""
        name = current()
        return super().formatMessage(record) + (f" request={name}" if name else "")


def to_stderr(each_request: bool) -> None:
    """Send the log to standard error.

    Args:
        each_request: a line for every answer, and not only for what went wrong.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    log.setLevel(logging.INFO if each_request else logging.NOTSET)
