"""Requests of the handshake era that wait for nothing: one request, a stream of one answer, and nothing in between.

The SDK carries them out (`serve_one`, which it has for the other era); only its transport is left out, which starts
two tasks and four streams for each of them. What this does not serve is that transport's to serve or to refuse.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import anyio
from mcp.server import Server
from mcp.server.connection import Connection
from mcp.server.runner import serve_one
from mcp.server.streamable_http import check_accept_headers
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.jsonrpc_dispatcher import handler_exception_to_error_data
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import DEFAULT_NEGOTIATED_VERSION, INTERNAL_ERROR, JSONRPCRequest, RequestId
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.requests import Request
from starlette.types import Send

from city_hall.surfaces.mcp.envelopes import Envelope

VERSION_HEADER = "mcp-protocol-version"
STREAM_HEADERS = [
    (b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]  # fmt: skip
_OF_TRANSPORT = ("", "initialize")
"""What is no request, and the one that decides how the others are served."""
_log = logging.getLogger("smart_city.mcp")
_WAY = TransportContext(kind="streamable-http", can_send_request=False)


class Exchanges:
    """Answers such requests: one costs 0.06 ms of the SDK here, where its transport takes 0.36 (case `mcp`)."""

    def __init__(self, server: Server[Any], security: TransportSecuritySettings) -> None:
        self._server = server
        self._security = TransportSecurityMiddleware(security)

    async def answer(self, asked: Envelope, request: Request, body: bytes, send: Send) -> bool:
        """Answers a request that waits for nothing; false, and nothing is done, where the SDK's transport has to.

        It is a stream, as that one's answers are: the official client of that era loses its session when it leaves
        while JSON is on its way. And it begins at once, so that a client waits with patience while a store is away.
        """
        if asked.is_notification or asked.method in _OF_TRANSPORT:
            return False
        version = request.headers.get(VERSION_HEADER, DEFAULT_NEGOTIATED_VERSION)
        if version not in HANDSHAKE_PROTOCOL_VERSIONS or not all(check_accept_headers(request)):
            return False
        try:
            message = JSONRPCRequest.model_validate_json(body, by_name=False)
        except ValidationError:
            return False
        if (refusal := await self._security.validate_request(request, is_post=True)) is not None:
            await refusal(request.scope, request.receive, send)
            return True
        await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": STREAM_HEADERS})
        told = {"jsonrpc": "2.0", "id": message.id, **await self._outcome(message, request, version)}
        await send({"type": "http.response.body", "body": event(told)})
        return True

    async def _outcome(self, message: JSONRPCRequest, request: Request, version: str) -> dict[str, Any]:
        connection = Connection.from_envelope(version, None, None)
        exchange = _Exchange(message.id, request)
        try:
            result = await serve_one(
                self._server, exchange, message.method, message.params, connection=connection, lifespan_state={}
            )
        except (MCPError, ValidationError) as error:
            told = handler_exception_to_error_data(error)
            assert told is not None  # noqa: S101  # it knows both
            return {"error": told.model_dump(mode="json", exclude_none=True)}
        except Exception:  # its stream has begun: whoever waits there is told in it, and nobody outside can be
            _log.exception("a request could not be carried out: %s", message.method)
            return {"error": {"code": INTERNAL_ERROR, "message": "Internal error"}}
        return {"result": result}


class _Exchange:
    """What the SDK may do with the other side while it serves one request: nothing but answer it."""

    transport = _WAY
    can_send_request = False

    def __init__(self, request_id: RequestId, request: Request) -> None:
        self.request_id = request_id
        self.message_metadata = ServerMessageMetadata(request_context=request, can_send_request=False)
        self.cancel_requested = anyio.Event()

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        raise NoBackChannelError(method)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        """There is no stream on which it could be told."""

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """What waits for nothing makes none."""


def event(message: Mapping[str, Any]) -> bytes:
    """A message as a server-sent event."""
    return b"event: message\ndata: " + to_json(message) + b"\n\n"
