"""What every request passes before and after the app: name, host, key, body, headers, count."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Set
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.datastructures import MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sasrecllm.machine import trace
from sasrecllm.serving import request_body, request_log, security
from sasrecllm.serving.limits import RateLimit
from sasrecllm.serving.problems import Problem, respond
from sasrecllm.serving.prometheus import Metrics

MOST_BUFFERED = 64 * request_body.LARGEST_BODY
RESPONSE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
log = logging.getLogger("sasrecllm.serving")


class Gate:
    """An ASGI app around the app.

    Args:
        hosts: names that the Host header may hold; None for any.
        key: needed for every path but ``/healthz``; None for an open door.
        with_body: (method, path) of the operations that take a body; no other body is read.
        limit: how often one address may call these operations; no limit by default.
        wrong_keys: how often one address may give a wrong key; no limit by default.
        root: path under which a proxy shows the server; requests may come with it and without.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        with_body: Set[tuple[str, str]],
        hosts: frozenset[str] | None = None,
        key: str | None = None,
        limit: RateLimit | None = None,
        wrong_keys: RateLimit | None = None,
        root: str = "",
    ) -> None:
        self.app, self.metrics, self.hosts, self.key = app, metrics, hosts, key
        self.limit, self.wrong_keys = limit or RateLimit(math.inf), wrong_keys or RateLimit(math.inf)
        self.root = root
        self.with_body = with_body
        self._buffered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request (or the server's own start and stop)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        caller = {key.decode("latin-1"): value.decode("latin-1") for key, value in headers.items()}
        with request_log.answering(headers) as name, trace.span(scope["method"], caller) as span:
            span.set_attribute("sasrecllm.request_id", name)
            await self._answer(name, span, scope, headers, receive, send)

    async def _answer(
        self,
        name: str,
        span: Any,
        scope: Scope,
        headers: Mapping[bytes, bytes],
        receive: Receive,
        send: Send,
    ) -> None:
        started = time.monotonic()
        only_head, scope = scope["method"] == "HEAD", self._inner(scope)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answered = MutableHeaders(scope=message)
                answered["X-Request-ID"] = name
                for header, value in RESPONSE_HEADERS.items():
                    answered.setdefault(header, value)
            elif only_head:
                message = {**message, "body": b""}
            await send(message)

        try:
            await self._pass(scope, headers, receive, send_with_headers)
        except request_body.Disconnected:
            return
        except Exception:  # the app has answered with 500 before it raised
            log.exception("a bug of ours")
        self._count(name, span, scope, status, time.monotonic() - started)

    def _inner(self, scope: Scope) -> Scope:
        """The request as the app knows it: without the proxy's path, and GET where only its head is
        wanted (RFC 9110: HEAD is GET without the body)."""
        path = scope["path"]
        if self.root and path.startswith(f"{self.root}/"):
            path = path.removeprefix(self.root)
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        return {**scope, "method": method, "path": path}

    async def _pass(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        held = 0
        try:
            self._check_caller(scope, headers)
            if self.root and scope["path"] == self.root:
                await RedirectResponse(f"{self.root}/", 308)(scope, receive, send)
                return
            if (scope["method"], scope["path"]) in self.with_body:
                self._count_against(self.limit, scope, "too many requests from this address")
                request_body.check_headers(headers)
                if self._buffered > MOST_BUFFERED:
                    raise Problem(503, "too many bodies at once; try again later", {"Retry-After": "1"})
                # Counted before the bytes come, so that a thousand slow bodies are counted too.
                held = request_body.LARGEST_BODY // 16
                self._buffered += held
                body = await request_body.read_body(receive, headers)
                self._buffered += len(body) - held
                held = len(body)
                request_body.check_json(body)
                receive = _replay(body, receive)
            await self.app(scope, receive, send)
        except Problem as problem:
            self.metrics.rejected.labels(str(problem.status)).inc()
            await respond(problem.status, problem.detail, problem.headers)(scope, receive, send)
        finally:
            self._buffered -= held

    def _check_caller(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1")
        if self.hosts is not None and security.host_name(host) not in self.hosts:
            raise Problem(421, "this server does not answer under that host name; see --allowed-host")
        origin = headers.get(b"origin", b"").decode("latin-1")
        # A preflight does nothing, and its answer, 405, lets nobody in.
        foreign = origin and not security.is_own_origin(origin, host, self.hosts)
        if foreign and scope["method"] != "OPTIONS":
            raise Problem(421, "this server does not answer pages of that origin; see --allowed-host")
        for sent in (scope.get("raw_path") or b"", scope["query_string"]):
            try:
                unquote_to_bytes(sent).decode()
            except UnicodeDecodeError:
                raise Problem(400, "the address is not UTF-8") from None
        if (
            self.key is not None
            and scope["path"] not in security.OPEN_PATHS
            and not security.carries_key(headers, self.key)
        ):
            # A right key always passes: behind a proxy all share one address.
            if security.gives_a_key(headers):
                self._count_against(self.wrong_keys, scope, "too many wrong keys from this address")
            raise Problem(
                401,
                "a key is needed: Authorization: Bearer KEY",
                {"WWW-Authenticate": 'Bearer, Basic realm="sasrecllm", charset="UTF-8"'},
            )

    def _count_against(self, limit: RateLimit, scope: Scope, refusal: str) -> None:
        seconds = limit.wait((scope.get("client") or ("",))[0])
        if seconds:
            raise Problem(429, refusal, {"Retry-After": str(seconds)})

    def _count(self, name: str, span: Any, scope: Scope, status: int, seconds: float) -> None:
        # Only templates of known routes: a path made up by a client must not become a time series.
        route = getattr(scope.get("route"), "path", "other")
        span.update_name(f"{scope['method']} {route}")
        span.set_attribute("http.route", route)
        span.set_attribute("http.response.status_code", status)
        self.metrics.count(route, status, seconds, name)
        log.info("%s %s %d %.3f s", scope["method"], route, status, seconds)


def _replay(body: bytes, receive: Receive) -> Receive:
    """``receive`` for the app, with the body that was read already."""
    waiting: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed
