"""The MCP server over streamable HTTP, on one URL for both protocol eras.

The SDK's low-level server speaks the protocol; here it is put together and given its callers. No instance keeps
anything between two requests: any of them answers any request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

import mcp_types
from mcp.server import Server
from mcp.server.caching import CacheHint
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from city_hall.surfaces.callers import Door, Identify
from city_hall.surfaces.catalogue import Catalogue
from city_hall.surfaces.http import BodyLimit, read_body
from city_hall.surfaces.mcp.calls import SESSION_HEADER, Calls
from city_hall.surfaces.mcp.channels import ChannelResources
from city_hall.surfaces.mcp.credit import admit
from city_hall.surfaces.mcp.envelopes import Envelope, envelope_of
from city_hall.surfaces.mcp.exchange import VERSION_HEADER, Exchanges
from city_hall.surfaces.mcp.handshake import Handshake
from city_hall.surfaces.mcp.listening import ListenStreams
from city_hall.surfaces.mcp.patience import Patience
from city_hall.surfaces.mcp.prompts import Prompts, text_of
from city_hall.surfaces.mcp.sessions import Sessions
from city_hall.surfaces.mcp.tools import Tools
from foundations.invocation import Invocation, Limits
from foundations.settings import Settings
from foundations.valkey import Subscriptions, Valkey
from smart_city.post_office.channels import Channels
from smart_city.post_office.gateway.listening import Listening

METHODS = ("GET", "DELETE")
"""What a session takes beside POST."""
HISTORY = "post_office_get_channel_history"
_LIST_FRESH_MS = 60_000
"""How long a client may keep a list: it changes only with a release, or with a caller's rights."""
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What a city with channels has beside its operations."""

    channels: Channels
    listening: Listening
    limits: Limits
    store: Valkey
    bus: Subscriptions


class McpSurface:
    """The MCP server and the ASGI application at `later.MCP_PATH`; `run` is entered once, before the first request.

    Without ``reach`` there are tools only.
    """

    def __init__(
        self, catalogue: Catalogue, identify: Identify, invocation: Invocation, settings: Settings, version: str,
        reach: Reach | None = None,
    ) -> None:  # fmt: skip
        self._catalogue = catalogue
        self._door = Door(identify, settings)
        self._limit = BodyLimit.of(settings)
        self._security = _security(settings)
        self._reach = reach
        calls = Calls()
        server = _server(Tools(catalogue, invocation, calls), version)
        self._sessions: Sessions | None = None
        self._handshake: Handshake | None = None
        if reach is not None:
            self._sessions = Sessions(reach.store, reach.bus, reach.listening, calls, most=settings.max_mcp_sessions)
            self._handshake = Handshake(
                self._sessions, reach.limits, most=settings.max_subscriptions,
                patience_seconds=settings.handshake_patience_seconds,
            )  # fmt: skip
            _add_channels(server, catalogue, invocation, reach, self._handshake)
        self._exchanges = Exchanges(server, self._security)
        manager = partial(
            StreamableHTTPSessionManager, server, stateless=True, security_settings=self._security,
            max_request_body_size=self._limit.bytes,
        )  # fmt: skip
        self._streams = manager()
        self._answers = manager(json_response=True)

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Holds what serves requests; on leaving, requests that still run are cancelled."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._streams.run())
            await stack.enter_async_context(self._answers.run())
            if self._reach is not None and self._sessions is not None:
                await stack.enter_async_context(self._sessions.heard())
                ending = asyncio.create_task(self._reach.listening.end_at_drain())
                stack.callback(ending.cancel)
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP request of somebody who has a token; the SDK carries ``scope["user"]`` to the handlers."""
        request = Request(scope, receive)
        request.state.arrived = monotonic()
        if request.method == "POST":
            scope["user"] = await self._door.caller(request)
            await self._post(request, await read_body(request, self._limit), send)
        elif self._handshake is None or request.method not in METHODS or SESSION_HEADER not in request.headers:
            raise HTTPException(405, headers={"Allow": "POST"})
        else:
            scope["user"] = await self._door.caller(request)
            await self._of_session(self._handshake, request, send)

    async def _post(self, request: Request, body: bytes, send: Send) -> None:
        """One message. The body was read here, within the bounds of all surfaces, and is handed on whole."""
        asked = envelope_of(body)
        if self._reach is not None:
            await admit(self._reach.limits, request.user, asked, self._catalogue.tool)
        if self._handshake is not None and request.headers.get(VERSION_HEADER) not in MODERN_PROTOCOL_VERSIONS:
            await self._handshake.admit(request)
            if (answer := await self._handshake.notice(request, asked)) is not None:
                await answer(request.scope, request.receive, send)
                return
            send = self._handshake.naming(request, asked, send)
        patience = Patience(request.receive, send)
        waits = self._waits(asked)
        if not waits and await self._exchanges.answer(asked, request, body, patience.send):
            return
        whole: Message | None = {"type": "http.request", "body": body}

        async def receive() -> Message:
            nonlocal whole
            message, whole = whole, None
            return message or await patience.receive()

        requests = self._streams if waits else self._answers
        await requests.handle_request(request.scope, receive, patience.send)

    def _waits(self, asked: Envelope) -> bool:
        """Whether there may be something to tell before the answer, or a client that leaves meanwhile to be noticed.

        What neither waits nor tells needs no tasks around it: 0.15 ms less a call in the sessionless era (case `mcp`).
        """
        entry = self._catalogue.tool(asked.params.name) if asked.method == "tools/call" else None
        return entry is not None and entry.operation.waits

    async def _of_session(self, handshake: Handshake, request: Request, send: Send) -> None:
        refusal = await TransportSecurityMiddleware(self._security).validate_request(request)
        if refusal is not None:
            await refusal(request.scope, request.receive, send)
        elif request.method == "GET":
            await handshake.stream(request, send)
        else:
            await (await handshake.end(request))(request.scope, request.receive, send)


def _server(tools: Tools, version: str) -> Server[Any]:
    """The server with its tools; `instructions.md` is what every client is told at the start."""
    lists = CacheHint(ttl_ms=_LIST_FRESH_MS, scope="public")
    server: Server[Any] = Server(
        "smart-city", version=version, title="Smart City", instructions=text_of("instructions.md"),
        cache_hints={
            "tools/list": lists, "prompts/list": lists, "resources/templates/list": lists,
            "resources/list": CacheHint(ttl_ms=_LIST_FRESH_MS, scope="private"),
        },
        get_tool_input_schema=tools.input_schema, on_list_tools=tools.list, on_call_tool=tools.call,
    )  # fmt: skip
    server.middleware.clear()  # spans of the SDK's own: the invocation has ours, and they take 13 µs a message
    return server


def _add_channels(
    server: Server[Any], catalogue: Catalogue, invocation: Invocation, reach: Reach, handshake: Handshake
) -> None:
    """Adds what a city with channels has: resources and their changes, prompts, and the completion of arguments."""
    history = catalogue.tool(HISTORY)
    if history is None:
        raise ValueError(f"without {HISTORY} channels cannot be read")
    resources = ChannelResources(reach.channels, history, invocation)
    prompts = Prompts(reach.channels, resources)
    streams = ListenStreams(reach.listening, reach.limits)
    add = server.add_request_handler
    add("resources/list", mcp_types.PaginatedRequestParams, resources.list)
    add("resources/templates/list", mcp_types.PaginatedRequestParams, resources.templates)
    add("resources/read", mcp_types.ReadResourceRequestParams, resources.read)
    add("resources/subscribe", mcp_types.SubscribeRequestParams, handshake.subscribe)
    add("resources/unsubscribe", mcp_types.UnsubscribeRequestParams, handshake.unsubscribe)
    add("subscriptions/listen", mcp_types.SubscriptionsListenRequestParams, streams)
    add("prompts/list", mcp_types.PaginatedRequestParams, prompts.list)
    add("prompts/get", mcp_types.GetPromptRequestParams, prompts.get)
    add("completion/complete", mcp_types.CompleteRequestParams, prompts.complete)


def _security(settings: Settings) -> TransportSecuritySettings:
    """Which names and pages may reach the server, against DNS rebinding.

    Bound to every address without ``PUBLIC_URL``, the platform does not know its names; there the token,
    which no page of a stranger has, is the protection.
    """
    if not (settings.is_loopback or settings.public_url):
        return TransportSecuritySettings(enable_dns_rebinding_protection=False)
    public = settings.public_origin
    hosts = [public.partition("://")[2], *_LOOPBACK, *(f"{host}:*" for host in _LOOPBACK)]
    origins = [public, *settings.allowed_origins]
    if settings.is_loopback:
        origins += [f"http://{host}:*" for host in _LOOPBACK]
    return TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=origins)
