"""What HTTP has for the sessions of the handshake era, beside the requests that the SDK answers.

A session's name comes with the answer to ``initialize``; GET is its stream of notifications, DELETE its end, and a
notification that cancels a call is acted on here, since the call may wait on another instance.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import mcp_types
from mcp.server import ServerRequestContext
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Send

from city_hall.surfaces.mcp.calls import SESSION_HEADER, CallName, session_of
from city_hall.surfaces.mcp.credit import spend
from city_hall.surfaces.mcp.envelopes import Envelope
from city_hall.surfaces.mcp.exchange import STREAM_HEADERS, event
from city_hall.surfaces.mcp.patience import SEND_SECONDS
from city_hall.surfaces.mcp.refusals import protocol_error
from city_hall.surfaces.mcp.session_store import SessionName, unknown
from city_hall.surfaces.mcp.sessions import Sessions, Stream
from foundations.errors import CityError, InvalidArgument, NotFound, Unavailable
from foundations.invocation import Limits

RETRY_SECONDS = 0.2
_log = logging.getLogger("smart_city.mcp")


class Handshake:
    """The handshake era's own part of the surface."""

    def __init__(self, sessions: Sessions, limits: Limits, *, most: int, patience_seconds: float) -> None:
        self._sessions = sessions
        self._limits = limits
        self._most = most
        self._patience_seconds = patience_seconds

    # POST

    async def admit(self, request: Request) -> None:
        """Lets a request in that names no session, or one that stands.

        While the store is away nobody can tell; what needs the session will say so.

        Raises:
            NotFound: the session is over, or never was. Asking costs a call, so that guessing has a limit.
        """
        if SESSION_HEADER not in request.headers:
            return
        try:
            await self._sessions.use(_session(request))
        except NotFound:
            await spend(self._limits, request.user)
            raise
        except CityError as error:
            _log.warning("a session could not be looked up: %s", error)

    async def notice(self, request: Request, message: Envelope) -> Response | None:
        """Carries out a cancellation; anything else is for the SDK."""
        if message.method != "notifications/cancelled" or not message.is_notification:
            return None
        if not (session := session_of(request)):
            return None
        if (cancelled := message.params.request_id) is not None:
            try:
                await self._sessions.cancel(CallName(session, str(cancelled)))
            except CityError as error:
                _log.warning("a cancellation reached this instance only: %s", error)
        return Response(status_code=202)

    def naming(self, request: Request, message: Envelope, send: Send) -> Send:
        """Sends the answer to ``initialize`` with the name of a new session; with none while the store is away."""
        if SESSION_HEADER in request.headers or message.method != "initialize":
            return send

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                try:
                    MutableHeaders(raw=message["headers"])[SESSION_HEADER] = await self._begin(request)
                except CityError as error:
                    _log.warning("a client goes without a session: %s", error)
            await send(message)

        return named

    async def _begin(self, request: Request) -> str:
        """A store that is away for a moment is waited for: who gets no session now, never has one.

        What was carried out and not answered is a session that nobody knows, and the first to be forgotten.
        """
        clock = asyncio.get_running_loop().time
        patience = clock() + self._patience_seconds
        while True:
            try:
                return await self._sessions.begin(request.user)
            except Unavailable:
                if clock() + RETRY_SECONDS > patience:
                    raise
            await asyncio.sleep(RETRY_SECONDS)

    async def subscribe(
        self, context: ServerRequestContext[Any, Request], params: mcp_types.SubscribeRequestParams
    ) -> mcp_types.EmptyResult:
        """``resources/subscribe``: the session's stream tells when this resource has changed."""
        try:
            request, session = await self._caller(context)
            await self._sessions.subscribe(request.user, session, params.uri, most=self._most)
        except CityError as error:
            raise protocol_error(error) from None
        return mcp_types.EmptyResult()

    async def unsubscribe(
        self, context: ServerRequestContext[Any, Request], params: mcp_types.UnsubscribeRequestParams
    ) -> mcp_types.EmptyResult:
        """``resources/unsubscribe``: it tells so no more."""
        try:
            _, session = await self._caller(context)
            await self._sessions.unsubscribe(session, params.uri)
        except CityError as error:
            raise protocol_error(error) from None
        return mcp_types.EmptyResult()

    async def _caller(self, context: ServerRequestContext[Any, Request]) -> tuple[Request, SessionName]:
        request = context.request
        assert request is not None  # noqa: S101  # only HTTP is served, and it brings the request
        await spend(self._limits, request.user)
        if session := session_of(request):
            return request, session
        raise InvalidArgument(f"this needs the {SESSION_HEADER} that came with the answer to initialize")

    # GET and DELETE

    async def end(self, request: Request) -> Response:
        """DELETE: the client needs its session no more."""
        await spend(self._limits, request.user)
        await self._sessions.end(_session(request))
        return Response(status_code=204)

    async def stream(self, request: Request, send: Send) -> None:
        """GET: the session's stream of notifications, until its client or this instance leaves."""
        accepted = request.headers.get("accept", "*/*")
        if not any(kind in accepted for kind in ("text/event-stream", "text/*", "*/*")):
            raise HTTPException(406, "the stream of a session is text/event-stream")
        await spend(self._limits, request.user)
        async with self._sessions.stream(request.user, _session(request), request.state.arrived) as stream:
            leaving = asyncio.create_task(_until_left(request, stream))
            try:
                await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
                async for uris in self._sessions.updates(stream):
                    await _write(send, _events(uris))
                await _write(send, b"", more=False)
            except TimeoutError:
                _log.info("a stream was given up: its client takes nothing")
            finally:
                leaving.cancel()
                with suppress(asyncio.CancelledError):
                    await leaving


def _session(request: Request) -> SessionName:
    if (session := session_of(request)) is None:
        raise unknown()
    return session


async def _until_left(request: Request, stream: Stream) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass  # a GET has no body
    stream.listener.end()


async def _write(send: Send, data: bytes, *, more: bool = True) -> None:
    async with asyncio.timeout(SEND_SECONDS):
        await send({"type": "http.response.body", "body": data, "more_body": more})


def _events(uris: Sequence[str]) -> bytes:
    """Notifications as server-sent events; without any, a comment that keeps the way open."""
    told = [
        {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}} for uri in uris
    ]  # fmt: skip
    return b"".join(map(event, told)) or b": still here\n\n"
