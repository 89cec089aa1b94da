"""Every operation of the catalogue as an MCP tool over streamable HTTP, on one URL for both protocol eras.

The SDK's low-level server speaks the protocol; validation, rights and limits are the invocation's, as on
every surface. No session is kept: any instance answers any request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

import mcp_types
from mcp.server import Server, ServerRequestContext
from mcp.server.caching import CacheHint
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from pydantic_core import to_json
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from city_hall.surfaces.callers import Door, Identify
from city_hall.surfaces.catalogue import Catalogue, Entry
from city_hall.surfaces.http import BodyLimit, read_body
from foundations.errors import ERRORS, CityError, NotFound
from foundations.invocation import Invocation, encode
from foundations.settings import Settings

_LIST_FRESH_MS = 60_000
"""How long a client may keep the list of tools: it changes only with a release."""
_REFUSAL: dict[str, Any] = {
    "type": "object", "title": "Refusal", "additionalProperties": False,
    "required": ["success", "code", "message", "retryable"],
    "properties": {
        "success": {"type": "boolean", "const": False},
        "code": {"type": "string", "enum": [error.code for error in ERRORS]},
        "message": {"type": "string"},
        "retryable": {"type": "boolean"},
        "retry_after": {"type": "number", "description": "seconds"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object", "additionalProperties": False, "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}  # fmt: skip
"""A tool's other answer. It stands in the output schema: TypeScript clients hold errors to that, too."""
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class McpSurface:
    """The MCP server and the ASGI application at `later.MCP_PATH`; `run` is entered once, before the first request."""

    def __init__(
        self,
        catalogue: Catalogue,
        identify: Identify,
        invocation: Invocation,
        settings: Settings,
        version: str,
    ) -> None:
        self._catalogue = catalogue
        self._invocation = invocation
        self._door = Door(identify, settings)
        self._limit = BodyLimit.of(settings)
        self._tools = mcp_types.ListToolsResult(tools=[_tool(entry) for entry in catalogue])
        server: Server[Any] = Server(
            "smart-city", version=version, title="Smart City", instructions=_instructions(),
            cache_hints={"tools/list": CacheHint(ttl_ms=_LIST_FRESH_MS, scope="public")},
            get_tool_input_schema=self._input_schema,
            on_list_tools=self._list_tools, on_call_tool=self._call_tool,
        )  # fmt: skip
        self._sessions = StreamableHTTPSessionManager(
            server, stateless=True, security_settings=_security(settings),
            max_request_body_size=self._limit.bytes,
        )  # fmt: skip

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Holds what serves requests; on leaving, requests that still run are cancelled."""
        async with self._sessions.run():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP request of somebody who has a token; the SDK carries ``scope["user"]`` to the tools.

        The body is read here, within the bounds of all surfaces, and handed on whole.
        """
        request = Request(scope, receive)
        scope["user"] = await self._door.caller(request)
        body: Message | None = {"type": "http.request", "body": await read_body(request, self._limit)}

        async def whole() -> Message:
            nonlocal body
            message, body = body, None
            return message or await receive()

        await self._sessions.handle_request(scope, whole, send)

    def _input_schema(self, name: str) -> dict[str, Any] | None:
        entry = self._catalogue.tool(name)
        return dict(entry.input_schema) if entry else None

    async def _list_tools(
        self, _context: ServerRequestContext[Any, Any], _params: mcp_types.PaginatedRequestParams | None
    ) -> mcp_types.ListToolsResult:
        return self._tools

    async def _call_tool(
        self, context: ServerRequestContext[Any, Request], params: mcp_types.CallToolRequestParams
    ) -> mcp_types.CallToolResult:
        entry = self._catalogue.tool(params.name)
        if entry is None:
            unknown = NotFound(f"there is no tool {params.name[:100]}; tools/list names all")
            raise MCPError(mcp_types.INVALID_PARAMS, unknown.message, _refused(unknown))
        assert context.request is not None  # noqa: S101  # only HTTP is served, and it brings the request
        meta: dict[str, Any] = dict(context.meta or {})
        try:
            result = await self._invocation(
                entry.operation, context.request.user, to_json(params.arguments or {}),
                traceparent=str(meta.get("traceparent", "")),
            )  # fmt: skip
        except CityError as error:
            return _answer(_refused(error), is_error=True)
        return _answer({"success": True, **encode(result)})


def _instructions() -> str:
    """What every client is told at the start: how an agent lives on a channel by tools alone."""
    return resources.files("city_hall.surfaces").joinpath("instructions.md").read_text(encoding="utf-8")


def _tool(entry: Entry) -> mcp_types.Tool:
    operation = entry.operation
    declared = operation.declared
    who = f"Needs {operation.who}."
    example = f"Example: {to_json(dict(declared.example)).decode()}"
    told = (operation.summary, operation.description, who, example)
    return mcp_types.Tool(
        name=operation.tool_name,
        title=operation.name.replace("_", " ").capitalize(),
        description="\n".join(filter(None, told)),
        input_schema=dict(entry.input_schema),
        output_schema={"type": "object", "oneOf": [dict(entry.output_schema), _REFUSAL]},
        annotations=mcp_types.ToolAnnotations(
            read_only_hint=declared.read_only, destructive_hint=declared.destructive,
            idempotent_hint=declared.idempotent, open_world_hint=False,
        ),
    )  # fmt: skip


def _answer(content: dict[str, Any], *, is_error: bool = False) -> mcp_types.CallToolResult:
    """The same object twice: structured, and as text for clients that only read text."""
    text = mcp_types.TextContent(type="text", text=to_json(content).decode())
    return mcp_types.CallToolResult(content=[text], structured_content=content, is_error=is_error)


def _refused(error: CityError) -> dict[str, Any]:
    """An error in the words of the protocol's error frames."""
    told: dict[str, Any] = {
        "success": False, "code": error.code, "message": error.message, "retryable": error.retryable,
    }  # fmt: skip
    if error.retry_after is not None:
        told["retry_after"] = error.retry_after
    if error.errors:
        told["errors"] = [{"field": wrong.field, "message": wrong.message} for wrong in error.errors]
    return told


def _security(settings: Settings) -> TransportSecuritySettings:
    """Which names and pages may reach the server, against DNS rebinding.

    Bound to every address without ``PUBLIC_URL``, the platform does not know its names; there the token,
    which no page of a stranger has, is the protection.
    """
    if not (settings.is_loopback or settings.public_url):
        return TransportSecuritySettings(enable_dns_rebinding_protection=False)
    public = settings.public_http_url
    hosts = [public.partition("://")[2], *_LOOPBACK, *(f"{host}:*" for host in _LOOPBACK)]
    origins = [public, *settings.allowed_origins]
    if settings.is_loopback:
        origins += [f"http://{host}:*" for host in _LOOPBACK]
    return TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=origins)
