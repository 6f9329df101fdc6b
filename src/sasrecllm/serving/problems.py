"""Errors on the wire: RFC 9457 problem+json, with what went wrong and what to do."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, get_args

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from sasrecllm.errors import ResourceError, SasrecllmError, did_you_mean
from sasrecllm.serving import request_log
from sasrecllm.serving.queueing import Overloaded

MEDIA_TYPE = "application/problem+json"
KINDS_OF_VALUE = ("function-", "constrained-", "dict[", "KnownItem", "TitledItem")
"""What pydantic puts into a place for the kinds of value that stand to choice there."""
SHOWN_ERRORS = 20
log = logging.getLogger("sasrecllm.serving")


class Problem(Exception):
    """A refusal with its HTTP status."""

    def __init__(
        self,
        status: int,
        detail: str,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.errors = status, detail, headers, errors


def respond(
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[Mapping[str, str]] = (),
) -> JSONResponse:
    """A problem+json response.

    Args:
        errors: where in the request (``body.k``) and what is wrong there, one entry each.
    """
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **({"request_id": request_log.current()} if request_log.current() else {}),
        **({"errors": list(errors)} if errors else {}),
    }
    return JSONResponse(body, status, dict(headers or {}), MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Let every error of ``app`` speak problem+json; no input is ever echoed."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(Overloaded, _overloaded)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(SasrecllmError, _refusal)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _bug)


async def _problem(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return respond(error.status, error.detail, error.headers, error.errors)


async def _overloaded(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Overloaded)
    detail = {
        "queue full": "too many requests wait; try again later",
        "timeout": "the server did not come to this request in time; try again later",
        "process died": "the model's process ended or hung, and is started again; try again later",
        "run changed": "the model's process ended, and its run is another now: the server must load it",
    }.get(error.reason, error.reason)
    return respond(503, detail, {"Retry-After": str(error.retry_after)})


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    # FastAPI's own handler echoes the input, which ends in a 500 for NaN and lone surrogates.
    assert isinstance(error, RequestValidationError)
    body = getattr(request.scope.get("route"), "body_field", None)
    asked = None if body is None else body.field_info.annotation
    errors = [
        {"where": _where(e["loc"]), "what": _what(e, asked)} for e in error.errors()[:SHOWN_ERRORS]
    ]
    return respond(422, "the request does not fit the schema; see /openapi.json", errors=errors)


def _where(location: Sequence[int | str]) -> str:
    """The place in the request, without the names that the library gives to the kinds of a value."""
    parts = [str(part) for part in location]
    return ".".join(part for part in parts if not part.startswith(KINDS_OF_VALUE))


def _what(error: Mapping[str, Any], asked: Any) -> str:
    """What is wrong; where it is a field that ``asked``, the body, does not have, those it has."""
    *place, name = error["loc"]
    allowed = _fields_at(asked, place[1:]) if error["type"] == "extra_forbidden" else []
    if not allowed:
        return str(error["msg"])
    said = f"there is no such field; allowed: {', '.join(allowed)}"
    return said + did_you_mean(str(name), allowed)


def _fields_at(annotation: Any, place: Sequence[int | str]) -> list[str]:
    """Names of the fields of the model that ``annotation`` has at ``place``; none without a model."""
    names = [part for part in place if isinstance(part, str)]
    model = _model_in(annotation)
    for name in names:
        field = model.model_fields.get(name) if model is not None else None
        model = _model_in(field.annotation) if field is not None else model  # the name of a choice
    return list(model.model_fields) if model is not None else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The first model that an annotation holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)


async def _refusal(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SasrecllmError)
    if isinstance(error, ResourceError):
        log.error("%s", error)
        return respond(503, "the store does not answer; try again later", {"Retry-After": "5"})
    return respond(422, f"{error.what}; {error.remedy}")


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    headers, detail = dict(error.headers or {}), str(error.detail)
    if error.status_code == 404 and detail == HTTPStatus.NOT_FOUND.phrase:  # the router's own
        detail = "there is no such path; see /openapi.json"
    if error.status_code == 405:  # the router names the methods of the first route of that path only
        routes: list[APIRoute] = request.app.state.routes
        fitting = [r.methods or set() for r in routes if r.path_regex.match(request.url.path)]
        allowed = set[str]().union(*fitting)
        allowed |= {"HEAD"} if "GET" in allowed else set()
        headers["Allow"] = ", ".join(sorted(allowed)) or headers.get("Allow", "")
        detail = f"this path takes {headers['Allow']} alone; see /openapi.json"
    return respond(error.status_code, detail, headers)


async def _bug(_: Request, error: Exception) -> JSONResponse:
    return respond(500, "a bug of ours; the server's log has it under this request_id")
