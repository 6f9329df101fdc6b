"""The OpenAPI document: FastAPI's own, with the errors that the middleware adds to every operation."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from sasrecllm.serving.problems import MEDIA_TYPE

PROBLEM = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "request_id": {"type": "string", "description": "as in X-Request-ID and in the server's log"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["where", "what"],
                "properties": {"where": {"type": "string"}, "what": {"type": "string"}},
            },
        },
    },
}
ALWAYS = {
    "400": "The address is not UTF-8",
    "404": "There is no such path or item",
    "421": "Not a host name of this server, or a page of another origin",
    "422": "The request does not fit the schema",
    "503": "Overloaded or stopping; see Retry-After",
}
WITH_BODY = {
    "400": "Not JSON in the sense of RFC 8259, or the address is not UTF-8",
    "408": "The body came too slowly",
    "409": "The item belongs to the run",
    "413": "The body is too long",
    "429": "This address asks too often; see Retry-After",
    "415": "Not application/json, or compressed",
}
WITH_KEY = {
    "401": "No key, or a wrong one",
    "429": "This address asks too often, or tried too many wrong keys; see Retry-After",
}


def describe(app: FastAPI, with_key: bool, root: str = "") -> None:
    """Replace ``app.openapi`` by a version that names every error response."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, with_key, root)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI, with_key: bool, root: str) -> dict[str, Any]:
    found = get_openapi(title=app.title, version=app.version, routes=app.routes)
    if root:
        found["servers"] = [{"url": root}]
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = PROBLEM
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for path, operations in found["paths"].items():
        for operation in operations.values():
            errors = ALWAYS | (WITH_BODY if "requestBody" in operation else {})
            errors |= WITH_KEY if with_key and path != "/healthz" else {}
            for code, text in errors.items():
                operation["responses"][code] = {"description": text, "content": content}
    if with_key:
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"key": []}]
        found["paths"]["/healthz"]["get"]["security"] = []
    return found
