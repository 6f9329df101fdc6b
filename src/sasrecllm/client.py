"""A small typed client of ``sasrecllm serve``; needs nothing but the standard library.

>>> client = Client("http://127.0.0.1:8000")  # doctest: +SKIP
>>> client.recommend(history=["m0003", {"title": "A quiet film"}], k=5)  # doctest: +SKIP
"""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar

from sasrecllm.errors import ConfigError, ResourceError, SasrecllmError

Call = TypeVar("Call", bound=Callable[..., Any])
Entry = str | Mapping[str, Any]
"""An item id that was liked, or {"item_id" or "title": ..., "liked": bool}."""


class ServerError(SasrecllmError):
    """The server refused: ``status``, what it said, and seconds to wait where it is busy."""

    def __init__(self, status: int, detail: str, retry_after: float | None = None) -> None:
        remedy = "correct the request; /openapi.json of the server says what it takes"
        if retry_after is not None:
            remedy = f"ask again in {retry_after:g} s"
        super().__init__(f"{status}: {detail}", remedy)
        self.status, self.detail, self.retry_after = status, detail, retry_after


def _renamed(**names: str) -> Callable[[Call], Call]:
    """Take keyword arguments by their names of before 2026-11-26 too, for one more version."""

    def around(call: Call) -> Call:
        @wraps(call)
        def taken(*given: Any, **more: Any) -> Any:
            for old in names.keys() & more.keys():
                warnings.warn(f"{old} is {names[old]} now", DeprecationWarning, stacklevel=2)
                more[names[old]] = more.pop(old)
            return call(*given, **more)

        return taken  # type: ignore[return-value]

    return around


class Client:
    """One server.

    Args:
        url: of the server, as ``sasrecllm serve`` prints it.
        key: the API key; without, ``SASRECLLM_API_KEY`` of the environment, if it is set.
        timeout: seconds for one request.

    Raises:
        ConfigError: ``url`` does not begin with http:// or https://.
    """

    def __init__(self, url: str, key: str | None = None, timeout: float = 30.0) -> None:
        if not url.lower().startswith(("http://", "https://")):
            raise ConfigError(
                f"url is {url!r}; allowed: http://... or https://...", "give http://127.0.0.1:8000"
            )
        self.url, self.timeout = url.rstrip("/"), timeout
        self.key = key or os.environ.get("SASRECLLM_API_KEY")

    @_renamed(user="user_id")
    def recommend(
        self, user_id: str | None = None, history: Sequence[Entry] = (), k: int = 10, **more: Any
    ) -> list[dict[str, Any]]:
        """The best items for a user, a history, or both.

        Args:
            more: wishes (``only``, ``where``, ``exclude``, ``boost``, ``diversity``, ``seen``),
                ``retrieve`` and ``rerank`` of the request.
        """
        asked = {"user_id": user_id, "history": list(history), "k": k, **more}
        return list(self.call("POST", "/v1/recommend", asked)["recommendations"])

    @_renamed(user="user_id", items="item_ids")
    def score(
        self, item_ids: Sequence[str], user_id: str | None = None, history: Sequence[Entry] = ()
    ) -> dict[str, float]:
        """Item id -> P(like)."""
        asked = {"item_ids": list(item_ids), "user_id": user_id, "history": list(history)}
        scores = self.call("POST", "/v1/score", asked)["scores"]
        return {s["item_id"]: s["probability"] for s in scores}

    @_renamed(user="user_id", item="item_id")
    def explain(
        self, item_id: str, user_id: str | None = None, history: Sequence[Entry] = ()
    ) -> dict[str, Any]:
        """Why an item has its probability."""
        asked = {"item_id": item_id, "user_id": user_id, "history": list(history)}
        return dict(self.call("POST", "/v1/explain", asked)["explanation"])

    def add_items(self, titles: Mapping[str, str]) -> dict[str, int]:
        """New items, id -> title; they count in the next answer."""
        items = [{"item_id": i, "title": t} for i, t in titles.items()]
        return dict(self.call("PUT", "/v1/items", {"items": items}))

    @_renamed(user="user_id")
    def add_feedback(self, user_id: str, liked: Mapping[str, bool]) -> dict[str, Any]:
        """What a user liked or not, item id -> liked; it counts in the next answer."""
        told = [{"user_id": user_id, "item_id": i, "liked": v} for i, v in liked.items()]
        return dict(self.call("POST", "/v1/interactions", {"interactions": told}))

    def forget(self, user_id: str) -> None:
        """Take a user out of the run and of what the server was told, for good."""
        self.call("DELETE", f"/v1/users/{urllib.parse.quote(user_id, safe='')}")

    def search(self, query: str, limit: int = 20) -> list[dict[str, Any]]:
        """Items whose titles hold every word of ``query``, best first."""
        asked = urllib.parse.urlencode({"query": query, "limit": limit})
        return list(self.call("GET", f"/v1/items?{asked}")["items"])

    def attributes(self, query: str = "", limit: int = 20) -> list[dict[str, Any]]:
        """What ``where`` and ``boost`` may name: attributes and values that hold every word."""
        asked = urllib.parse.urlencode({"query": query, "limit": limit})
        return list(self.call("GET", f"/v1/attributes?{asked}")["values"])

    def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """One request.

        Raises:
            ServerError: the server answered with 4xx or 5xx.
            ResourceError: nothing answers there in time, or something that is not this server.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        headers |= {"Authorization": f"Bearer {self.key}"} if self.key else {}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            text, wait = error.read().decode("utf-8", "replace"), error.headers.get("Retry-After")
            raise ServerError(error.code, text, float(wait) if wait else None) from None
        except (OSError, http.client.HTTPException, ValueError) as error:  # refused, cut off, no JSON
            reason = str(getattr(error, "reason", error)) or type(error).__name__
            raise ResourceError(
                f"{self.url} does not answer as a server of sasrecllm: {reason}",
                "start one (sasrecllm serve RUN), or correct the address",
            ) from None
