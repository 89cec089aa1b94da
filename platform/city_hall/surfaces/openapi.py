"""The OpenAPI document: what FastAPI knows of its own routes, and the operations from their declarations.

It is generated at the first asking and never kept by hand.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from city_hall.surfaces.addresses import parameters
from city_hall.surfaces.callers import COOKIE
from city_hall.surfaces.catalogue import Entry
from city_hall.surfaces.problems import MEDIA_TYPE, Problem
from city_hall.surfaces.samples import sample
from foundations.errors import ERRORS, CityError
from foundations.operations import Operation

_ONLY_ON_SOCKETS = HTTPStatus.BAD_REQUEST
"""What is not a frame, or of no known type, cannot be said over HTTP."""
_STATUSES: tuple[int, ...] = tuple(sorted({error.status for error in ERRORS if error.status != _ONLY_ON_SOCKETS}))

_HELD = (
    "The store is away: `status` is `held`, and what was asked for is kept here and done on its return. It is lost if "
    "this instance dies first; the same call with its `Idempotency-Key` gets the final answer afterwards."
)
_RATE_LIMITED: Mapping[str, Any] = {
    "Retry-After": {"description": "seconds", "schema": {"type": "integer", "minimum": 1}},
    "RateLimit-Policy": {
        "description": "the limit that was hit, and so many in so many seconds: `\"session.calls\";q=10;w=2`",
        "schema": {"type": "string"},
    },
    "RateLimit": {
        "description": "what is left, and when there is more: `\"session.calls\";r=0;t=1`", "schema": {"type": "string"}
    },
}  # fmt: skip

TAGS: Mapping[str, str] = {
    "post_office": "Channels and what is published on them, agents and their inboxes, connections. What is published "
    "is in the channel's log before the call returns, unless it answers 202.",
    "traffic_cop": "Sessions of users, tokens of services, rates and figures.",
    "connections": "The caller's own connections.",
    "health": "How this instance is: for balancers, dashboards and people. Needs no token; texts of errors are for "
    "callers who may observe.",
    "documents": "What describes the platform, and its metrics. A token with any scope opens them, or a setting.",
}


def describe(entry: Entry, *, address: str = "") -> dict[str, Any]:
    """One operation in OpenAPI's words: its arguments, its answer, its refusals and who may call it.

    They stand in the request's body, or in the ``address``.
    """
    operation = entry.operation
    answer = _json(entry.output_schema, sample(entry.output_schema))
    described = secured(operation, {"description": "Done.", "content": answer})
    if operation.may_hold:
        described["responses"]["202"] = {"description": _HELD, "content": answer}
    if address:
        described["operationId"] = named(address)
        described["parameters"] = parameters(address, entry.input_schema, operation.declared.example)
        return described
    described["operationId"] = operation.tool_name
    rules = {"allOf": list(operation.declared.rules)} if operation.declared.rules else {}
    content = _json({**entry.input_schema, **rules}, dict(operation.declared.example))
    described["requestBody"] = {"required": bool(rules or entry.input_schema.get("required")), "content": content}
    if operation.takes_key:
        described["parameters"] = [{"$ref": "#/components/parameters/IdempotencyKey"}]
    return described


def secured(operation: Operation, done: Mapping[str, Any]) -> dict[str, Any]:
    """What is the same of every operation: its words, who may call it, what it answers when ``done`` or refused."""
    declared = operation.declared
    return {
        "tags": [operation.service],
        "summary": operation.summary,
        "description": operation.description,
        "security": [{"bearer": []}, {"session": []}] if declared.sessions else [{"bearer": []}],
        "responses": {
            "200": done,
            **{str(status): {"$ref": f"#/components/responses/{_name(status)}"} for status in _STATUSES},
        },
        "x-scope": declared.scope,
        "x-deadline-seconds": declared.deadline,
        "x-read-only": declared.read_only,
        "x-destructive": declared.destructive,
        "x-idempotent": declared.idempotent,
        **({"x-rate": str(declared.rate)} if declared.rate else {}),
    }


def document_described(path: str, summary: str, media_type: str) -> dict[str, Any]:
    """A document that a scope opens, or a setting."""
    schema = {"type": "object" if media_type == "application/json" else "string"}
    refused = {str(status): {"$ref": f"#/components/responses/{_name(status)}"} for status in (401, 403, 503)}
    return {
        "tags": ["documents"], "operationId": named(path), "summary": summary, "security": [{"bearer": []}],
        "responses": {"200": {"description": summary, "content": {media_type: {"schema": schema}}}, **refused},
    }  # fmt: skip


class DocumentedRoute(Route):
    """A route that brings its own description.

    It is Starlette's and not FastAPI's: that one resolves dependencies, which operations do not have (75 µs a
    call against 51), and leaves every null out of what it is told, also in examples and defaults.
    """

    def __init__(
        self, path: str, endpoint: Callable[[Request], Awaitable[Response]], *, method: str,
        described: Mapping[str, Any],
    ) -> None:  # fmt: skip
        super().__init__(path, endpoint, methods=[method])
        self.description = {method.lower(): described}


def bind_openapi(app: FastAPI) -> None:
    """Lets ``app.openapi()`` give the whole document."""
    by_fastapi = app.openapi

    def complete() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = by_fastapi() | {"tags": [{"name": name, "description": told} for name, told in TAGS.items()]}
            for route in app.routes:
                if isinstance(route, DocumentedRoute):
                    document["paths"].setdefault(route.path, {}).update(route.description)
            components = document.setdefault("components", {})
            for kind, shared in _components().items():
                components.setdefault(kind, {}).update(shared)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = complete  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _components() -> dict[str, dict[str, Any]]:
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas = problem.pop("$defs")
    return {
        "schemas": {**schemas, "Problem": problem},
        "responses": {_name(status): _refusals(status) for status in _STATUSES},
        "parameters": {
            "IdempotencyKey": {
                "name": "Idempotency-Key", "in": "header", "required": False,
                "description": "Makes the call safe to repeat for ten minutes; like the argument `key`.",
                "schema": {"type": "string", "maxLength": 64},
            },
        },
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer", "description": "A service or session token."},
            "session": {
                "type": "apiKey", "in": "cookie", "name": COOKIE, "description": "A browser's session.",
            },
        },
    }  # fmt: skip


def _refusals(status: int) -> Mapping[str, Any]:
    """One status with an example of every error that answers it."""
    errors = [error for error in ERRORS if error.status == status]
    examples = {error.code: {"value": problem_example(error)} for error in errors}
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}}
    told = {"description": ", or ".join(_sentence(error) for error in errors), "content": content}
    return {**told, "headers": _RATE_LIMITED} if status == HTTPStatus.TOO_MANY_REQUESTS else told


def problem_example(error: type[CityError]) -> dict[str, Any]:
    """How a refusal of this kind looks."""
    return Problem.of(error(_sentence(error))).model_dump(mode="json", exclude_none=True)


def _sentence(error: type[CityError]) -> str:
    """What the error's class says of itself, up to the first stop."""
    said = " ".join((error.__doc__ or error.title).split())
    return said.partition(".")[0].partition(";")[0]


def _json(schema: Mapping[str, Any], example: Any) -> dict[str, Any]:
    return {"application/json": {"schema": dict(schema), "example": example}}


def named(address: str) -> str:
    """The operation id of a plain address: ``/api/channels/{channel}/history`` is ``api_channels_channel_history``."""
    return re.sub(r"\W+", "_", address).strip("_") or "root"


def _name(status: int) -> str:
    return HTTPStatus(status).phrase.title().replace(" ", "")
