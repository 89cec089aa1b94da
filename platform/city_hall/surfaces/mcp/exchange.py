"""Requests of the handshake era that are answered at once: one request, one JSON answer, and nothing in between.

The SDK carries them out (`serve_one`, which it has for the other era); only its transport is left out, which starts
two tasks and four streams for each of them. What this does not serve is that transport's to serve or to refuse.
"""

from __future__ import annotations

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
from mcp_types import DEFAULT_NEGOTIATED_VERSION, JSONRPCRequest, RequestId
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from city_hall.surfaces.mcp.envelopes import Envelope

VERSION_HEADER = "mcp-protocol-version"
_OF_TRANSPORT = ("", "initialize")
"""What is no request, and the one that decides how the others are served."""
_WAY = TransportContext(kind="streamable-http", can_send_request=False)


class Exchanges:
    """Answers such requests: one costs 0.06 ms of the SDK here, where its transport takes 0.36 (case `mcp`)."""

    def __init__(self, server: Server[Any], security: TransportSecuritySettings) -> None:
        self._server = server
        self._security = TransportSecurityMiddleware(security)

    async def answer(self, asked: Envelope, request: Request, body: bytes) -> Response | None:
        """The answer to a request that waits for nothing; None when it is for the SDK's transport to serve."""
        if asked.is_notification or asked.method in _OF_TRANSPORT:
            return None
        version = request.headers.get(VERSION_HEADER, DEFAULT_NEGOTIATED_VERSION)
        takes_json, _ = check_accept_headers(request)
        if version not in HANDSHAKE_PROTOCOL_VERSIONS or not takes_json:
            return None
        try:
            message = JSONRPCRequest.model_validate_json(body, by_name=False)
        except ValidationError:
            return None
        if (refusal := await self._security.validate_request(request, is_post=True)) is not None:
            return refusal
        return _written(message.id, await self._outcome(message, request, version))

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


def _written(request_id: RequestId, outcome: Mapping[str, Any]) -> Response:
    body = to_json({"jsonrpc": "2.0", "id": request_id, **outcome})
    return Response(body, HTTPStatus.OK, media_type="application/json")
