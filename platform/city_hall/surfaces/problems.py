"""Every error of the HTTP surface as ``application/problem+json`` (RFC 9457), whoever raised it.

Older clients find ``success: false`` and ``error`` in the same body. Nothing of the inside gets out: what is
no `CityError` is answered as ``internal``, and its traceback goes to the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from http import HTTPStatus
from math import ceil
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from foundations.errors import CityError, FieldError, Internal, InvalidArgument, NotFound, RateLimited

MEDIA_TYPE = "application/problem+json"
PAGE = "/docs/problems"
"""Where the kinds of problems are explained, each under its code."""


class WrongField(BaseModel):
    """One argument that is wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: str = Field(examples=["items.0.channel"])
    message: str


class Problem(BaseModel):
    """What every refusal and failure looks like over HTTP."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str = Field(description="names the kind of problem", examples=["/docs/problems#not_found"])
    title: str
    status: int
    detail: str = Field(description="a sentence for people; it may change")
    code: str = Field(description="for programs; it does not change", examples=["not_found"])
    retryable: bool = Field(description="whether the same call may succeed later")
    retry_after: float | None = Field(default=None, description="seconds")
    errors: tuple[WrongField, ...] | None = None
    success: bool = False
    error: str = Field(description="the same as detail, for older clients")

    @classmethod
    def of(cls, error: CityError) -> Problem:
        """How ``error`` is written down."""
        return cls(
            type=f"{PAGE}#{error.code}", title=error.title, status=error.status,
            detail=error.message, code=error.code, retryable=error.retryable, retry_after=error.retry_after,
            errors=tuple(WrongField(field=e.field, message=e.message) for e in error.errors) or None,
            error=error.message,
        )  # fmt: skip

    def response(self, headers: dict[str, str] | None = None) -> Response:
        """The problem as a response; nobody is to keep it."""
        headers = {"Cache-Control": "no-store", **(headers or {})}
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, ceil(self.retry_after)))
        body = self.model_dump_json(exclude_none=True)
        return Response(body, self.status, headers=headers, media_type=MEDIA_TYPE)


def refusal(error: CityError, request: Request) -> Response:
    """The response to a request that was refused; an unauthenticated one is told how to authenticate."""
    headers = {}
    if error.status == HTTPStatus.UNAUTHORIZED:
        given = "authorization" in request.headers
        headers["WWW-Authenticate"] = 'Bearer realm="smart-city"' + ', error="invalid_token"' * given
    if isinstance(error, RateLimited) and error.limit:
        headers |= _rate_limit(error)
    return Problem.of(error).response(headers)


def _rate_limit(error: RateLimited) -> dict[str, str]:
    """Which limit was hit, in the words of draft-ietf-httpapi-ratelimit-headers."""
    return {
        "RateLimit-Policy": f'"{error.limit}";q={error.quota};w={max(1, ceil(error.window))}',
        "RateLimit": f'"{error.limit}";r=0;t={max(1, ceil(error.retry_after or 0))}',
    }


def bind_problems(app: FastAPI) -> None:
    """Makes ``app`` answer every error as a problem, its framework's own and unexpected ones included."""
    app.add_exception_handler(CityError, _refused)
    app.add_exception_handler(HTTPException, _by_framework)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unexpected)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, CityError)  # noqa: S101  # registered for this class
    return refusal(error, request)


OPERATIONS = "/soa/"
_PATH_COMPARED = 100
"""Characters of an address that are compared and repeated."""

BY_FRAMEWORK: Mapping[int, str] = {
    HTTPStatus.METHOD_NOT_ALLOWED: "this address does not take that method; Allow names those it takes",
    HTTPStatus.NOT_ACCEPTABLE: "what this address answers is not among what Accept names",
    HTTPStatus.UPGRADE_REQUIRED: "this address is a WebSocket's; Upgrade says so",
}
"""Refusals that only HTTP knows, and what is told of each where nothing better was said."""


async def _by_framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for this class
    status = HTTPStatus(error.status_code)
    if status == HTTPStatus.NOT_FOUND:
        problem = Problem.of(_nothing_at(request))
    else:
        told = error.detail if error.detail != status.phrase else BY_FRAMEWORK.get(status, error.detail)
        problem = problem_of_http(status, told)
    return problem.response(dict(error.headers or {}))


def _nothing_at(request: Request) -> NotFound:
    """What is wrong with the address; a misspelt operation is told what was probably meant."""
    path = request.url.path
    if not path.startswith(OPERATIONS):
        return NotFound("there is nothing here; /openapi.json lists what there is")
    known = [route.path for route in request.app.routes if getattr(route, "path", "").startswith(OPERATIONS)]
    meant = "".join(f" (did you mean {found}?)" for found in get_close_matches(path[:_PATH_COMPARED], known, 1))
    return NotFound(f"there is no operation {path[:_PATH_COMPARED]}{meant}; /openapi.json lists all")


def problem_of_http(status: HTTPStatus, told: str) -> Problem:
    """What is no error of the city's, but HTTP's."""
    code = status.phrase.lower().replace(" ", "_").replace("-", "_")
    kind = f"{PAGE}#{code}" if status in BY_FRAMEWORK else "about:blank"
    return Problem(type=kind, title=status.phrase, status=status, detail=told, code=code, retryable=False, error=told)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for this class
    wrong = [FieldError(_path(problem["loc"]), problem["msg"]) for problem in error.errors()]
    return refusal(InvalidArgument(f"{wrong[0].field}: {wrong[0].message}", errors=wrong), request)


async def _gone(_request: Request, _error: Exception) -> Response:
    return gone()


def gone() -> Response:
    """Nobody is left to read this; the status is what access logs know such requests by."""
    return Response(status_code=499)


async def _unexpected(request: Request, _error: Exception) -> Response:
    """Starlette raises the exception again after this answer, and the server logs it with its traceback."""
    return refusal(Internal("something went wrong here; the log of this instance has the details"), request)


def _path(loc: tuple[Any, ...]) -> str:
    """Without the first part, which says only that it stood in the query or in the path."""
    return ".".join(str(part) for part in loc[1:])
