"""Request bodies that cannot hurt: bounded in size and time, and JSON without traps.

The standard parser takes NaN, repeated keys and lone surrogates without a word, and FastAPI reads a
body of any size at any pace.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Mapping
from typing import Any

from starlette.types import Message, Receive

from sasrecllm.serving.problems import Problem

LARGEST_BODY = 1_000_000
BODY_SECONDS = 10.0
MOST_MEMBERS = 100  # of one object; every object of the schema has fewer
DRAIN_BYTES = 64_000_000
DRAIN_SECONDS = 2.0


class Disconnected(Exception):
    """The client went away before its body was complete."""


def check_headers(headers: Mapping[bytes, bytes]) -> None:
    """Only plain JSON of a bearable length.

    Raises:
        Problem: 415 or 400.
    """
    media, _, parameters = headers.get(b"content-type", b"").partition(b";")
    charset = parameters.strip().lower().removeprefix(b"charset=").strip(b'"')
    if media.strip().lower() != b"application/json" or charset not in (b"", b"utf-8"):
        raise Problem(415, "the body must be application/json in UTF-8", {"Accept": "application/json"})
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        raise Problem(415, "the body must not be compressed", {"Accept-Encoding": "identity"})


async def read_body(receive: Receive, headers: Mapping[bytes, bytes]) -> bytes:
    """The whole body.

    Raises:
        Problem: 413 over ``LARGEST_BODY``, 408 when it takes longer than ``BODY_SECONDS``.
        Disconnected: the client went away.
    """
    declared = headers.get(b"content-length", b"0")
    if not declared.isdigit() or int(declared[:18]) > LARGEST_BODY:
        await _drain(receive)
        raise Problem(413, f"the body is longer than {LARGEST_BODY} bytes", {"Connection": "close"})
    ends = time.monotonic() + BODY_SECONDS
    body = bytearray()
    more = True
    while more:
        message = await _next(receive, ends)
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > LARGEST_BODY:
            body.clear()
            await _drain(receive)
            raise Problem(413, f"the body is longer than {LARGEST_BODY} bytes", {"Connection": "close"})
    return bytes(body)


async def _next(receive: Receive, ends: float) -> Message:
    try:
        message = await asyncio.wait_for(receive(), max(0.0, ends - time.monotonic()))
    except TimeoutError:
        detail = f"the body took longer than {BODY_SECONDS:.0f} seconds"
        raise Problem(408, detail, {"Connection": "close"}) from None
    if message["type"] == "http.disconnect":
        raise Disconnected
    return message


async def _drain(receive: Receive) -> None:
    """Throw away what still comes, within bounds: a client that still writes would miss our answer."""
    ends, left = time.monotonic() + DRAIN_SECONDS, DRAIN_BYTES
    while left > 0:
        try:
            message = await _next(receive, ends)
        except Problem:
            return
        left -= len(message.get("body", b""))
        if not message.get("more_body", False):
            return


def check_json(body: bytes) -> None:
    """Refuse what is not exactly one JSON value in UTF-8 (RFC 8259), or says a thing twice.

    >>> check_json(b'{"k": 5}')
    >>> check_json(b'{"k": 5, "k": 6}')
    Traceback (most recent call last):
    sasrecllm.serving.problems.Problem: the body is not JSON: key 'k' occurs twice

    Raises:
        Problem: 400.
    """
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
        )
        if b"\\ud" in body.lower():
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError:
        raise Problem(400, "the body is not UTF-8") from None
    except UnicodeEncodeError:
        raise Problem(400, "the body is not JSON: a text holds half of a surrogate pair") from None
    except RecursionError:
        raise Problem(400, "the body is not JSON: nested too deeply") from None
    except ValueError as error:
        where = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise Problem(400, f"the body is not JSON: {what}{where}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if len(pairs) > MOST_MEMBERS:
        raise ValueError(f"an object has more than {MOST_MEMBERS} members")
    for key, value in pairs:
        if key in found:
            shown = key[:40].encode("ascii", "backslashreplace").decode()
            raise ValueError(f"key '{shown}' occurs twice")
        found[key] = value
    return found


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no number in JSON")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value
