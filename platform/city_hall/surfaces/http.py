"""Every operation of the catalogue as ``POST /soa/{service}/{operation}``, JSON in and JSON out.

A route only brings bytes: who calls is found out here, everything else happens in the invocation. FastAPI
documents; it validates nothing, since strict models behind its bodies refuse what JSON can say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from city_hall.surfaces.addresses import arguments_in
from city_hall.surfaces.callers import Door, Identify
from city_hall.surfaces.catalogue import Catalogue, Entry
from city_hall.surfaces.direct import Endpoint, Table, answering
from city_hall.surfaces.openapi import DocumentedRoute, describe
from foundations.errors import DeadlineExceeded, TooLarge
from foundations.invocation import Invocation
from foundations.operations import Result
from foundations.settings import Settings

ENVELOPE_BYTES = 64 * 1024
"""What a body may hold beside the largest message: the names and values of the other arguments."""


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """What a request's body may be, and in how many seconds it has to be there."""

    bytes: int
    seconds: float

    @classmethod
    def of(cls, settings: Settings) -> BodyLimit:
        """What the settings allow."""
        return cls(settings.max_message_bytes + ENVELOPE_BYTES, settings.body_seconds)


ADDRESSES: Mapping[str, str] = {
    "/api/connections/stats": "post_office_get_connection_count",
    "/api/channels/{channel}/history": "post_office_get_channel_history",
}
"""Addresses of operations that only look, for what can only GET."""

_PRIVATE = {"Cache-Control": "no-store"}
"""What is answered is for its caller alone, also where only a cookie says who that is."""


def bind_operations(
    app: FastAPI, catalogue: Catalogue, identify: Identify, invocation: Invocation, settings: Settings,
    direct: Table,
) -> None:  # fmt: skip
    """Gives every operation its route, and puts it into the table of `Direct`."""
    surface = _Operations(Door(identify, settings), invocation, BodyLimit.of(settings))
    for entry in catalogue:
        path = entry.operation.path
        endpoint = surface.endpoint(entry)
        direct[path] = answering(endpoint)
        app.router.routes.append(DocumentedRoute(path, endpoint, method="POST", described=describe(entry)))
    for path, tool in ADDRESSES.items():
        if (named := catalogue.tool(tool)) is not None:
            bind_address(app, path, named, identify, invocation, settings)


def bind_address(
    app: FastAPI, path: str, entry: Entry, identify: Identify, invocation: Invocation, settings: Settings
) -> None:
    """Gives an operation an address with its arguments in path and query."""
    surface = _Operations(Door(identify, settings), invocation, BodyLimit(0, 0))
    described = describe(entry, address=path)
    app.router.routes.append(DocumentedRoute(path, surface.looking_endpoint(entry), method="GET", described=described))


def success(result: Result) -> Response:
    """A result as the surface answers it: ``success`` and the result's fields; 202 for what is held."""
    body = result.to_json()
    rest = body[1:] if body == b"{}" else b"," + body[1:]
    status = HTTPStatus.ACCEPTED if result.is_held else HTTPStatus.OK
    return Response(b'{"success":true' + rest, status, media_type="application/json", headers=_PRIVATE)


class _Operations:
    """What the routes share."""

    def __init__(self, door: Door, invocation: Invocation, limit: BodyLimit) -> None:
        self._door = door
        self._invocation = invocation
        self._limit = limit

    def endpoint(self, entry: Entry) -> Endpoint:
        """Calls the operation with the request's body."""
        operation = entry.operation

        async def call(request: Request) -> Response:
            caller = await self._door.caller(request)
            raw = await read_body(request, self._limit)
            headers = request.headers
            called = self._invocation(
                operation, caller, raw,
                key=headers.get("idempotency-key", ""), traceparent=headers.get("traceparent", ""),
            )  # fmt: skip
            return success(await (_while_connected(request, called) if operation.waits else called))

        return call

    def looking_endpoint(self, entry: Entry) -> Endpoint:
        """Calls the operation with what the address says."""
        operation = entry.operation

        async def call(request: Request) -> Response:
            caller = await self._door.caller(request)
            raw = arguments_in(request, entry.input_schema)
            traceparent = request.headers.get("traceparent", "")
            return success(await self._invocation(operation, caller, raw, traceparent=traceparent))

        return call


async def read_body(request: Request, limit: BodyLimit) -> bytes:
    """The request's body, refused as soon as it is known to be too large or too slow."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit.bytes:
        raise TooLarge(f"the body is larger than {limit.bytes} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(limit.seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit.bytes:
                    raise TooLarge(f"the body is larger than {limit.bytes} bytes")
    except TimeoutError:
        raise DeadlineExceeded(f"the body did not arrive within {limit.seconds:g} seconds") from None
    return bytes(body)


async def _while_connected(request: Request, called: Coroutine[Any, Any, Result]) -> Result:
    """The call's result, unless the caller leaves first; then the call is cancelled and waited for."""
    work = asyncio.create_task(called)
    gone = asyncio.ensure_future(request.receive())  # after the body, only http.disconnect is left to come
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        raise ClientDisconnect
    finally:
        work.cancel()
        gone.cancel()
        await asyncio.wait({work, gone})
