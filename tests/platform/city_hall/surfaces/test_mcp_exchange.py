"""What is answered without the SDK's transport is what the SDK's transport answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import mcp_types
import pytest
from mcp.server import Server, ServerRequestContext
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from city_hall.surfaces.mcp.envelopes import envelope_of
from city_hall.surfaces.mcp.exchange import Exchanges
from tests.support.http_server import serving

LEFT = 418
HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
SECURITY = TransportSecuritySettings(allowed_hosts=["127.0.0.1:*"], allowed_origins=["http://ours"])


async def listed(
    _context: ServerRequestContext[Any, Any], _params: mcp_types.PaginatedRequestParams | None
) -> mcp_types.ListToolsResult:
    return mcp_types.ListToolsResult(tools=[mcp_types.Tool(name="echo", input_schema={"type": "object"})])


async def called(
    context: ServerRequestContext[Any, Request], params: mcp_types.CallToolRequestParams
) -> mcp_types.CallToolResult:
    """Echoes; what it tells before its answer goes nowhere."""
    if params.name == "defect":
        raise RuntimeError("op_0123456789 is nobody's to know")
    if params.name != "echo":
        raise MCPError(mcp_types.INVALID_PARAMS, "there is no such tool", {"code": "not_found"})
    await context.session.report_progress(0.5)
    assert context.request is not None
    told = {"given": params.arguments, "by": context.request.headers["x-caller"], "version": context.protocol_version}
    return mcp_types.CallToolResult(content=[], structured_content=told)


@dataclass(frozen=True, slots=True)
class Transport:
    """The SDK's own."""

    manager: StreamableHTTPSessionManager

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.manager.handle_request(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Direct:
    """Without it; what is left to it is told by a status of its own."""

    exchanges: Exchanges

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        if not await self.exchanges.answer(envelope_of(body), request, body, send):
            await Response(status_code=LEFT)(scope, receive, send)


@asynccontextmanager
async def both() -> AsyncIterator[httpx2.AsyncClient]:
    server: Server[Any] = Server("example", version="1", on_list_tools=listed, on_call_tool=called)
    manager = StreamableHTTPSessionManager(server, stateless=True, security_settings=SECURITY)

    @asynccontextmanager
    async def life(_app: Starlette) -> AsyncIterator[None]:
        async with manager.run():
            yield

    routes = [Route("/transport", Transport(manager)), Route("/direct", Direct(Exchanges(server, SECURITY)))]
    async with (
        serving(Starlette(lifespan=life, routes=routes)) as url,
        httpx2.AsyncClient(base_url=url, headers=HEADERS | {"X-Caller": "alice"}, timeout=10) as http,
    ):
        yield http


def last(response: httpx2.Response) -> Any:
    """The last message of a stream: before it there may be progress, for which nobody here waits."""
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    return json.loads(lines[-1])


CALL = '{"jsonrpc": "2.0", "id": %s, "method": "tools/call", "params": %s}'
ECHO = CALL % ("7", '{"name": "echo", "arguments": {"n": null, "deep": [{"x": 1.5}]}, "_meta": {"progressToken": 1}}')
PLAIN = (
    ECHO, CALL % ('"a name"', '{"name": "echo"}'), CALL % ("0", '{"name": "nothing"}'), CALL % ("1", "{}"),
    '{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}', '{"jsonrpc": "2.0", "id": 1, "method": "ping"}',
    '{"jsonrpc": "2.0", "id": 1, "method": "no/such"}',
    '{"jsonrpc": "2.0", "id": 1, "method": "prompts/get", "params": {"name": "x"}}',
    '{"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": {}}',
)  # fmt: skip
OTHERS: tuple[tuple[str, dict[str, str]], ...] = (
    ("{", {}), (f"[{ECHO}]", {}), (CALL % ("null", "{}"), {}), (CALL % ("1.5", '{"name": "echo"}'), {}),
    (CALL % ("1", '{"name": 5}'), {}), (ECHO.replace("2.0", "1.0"), {}), (ECHO, {"Accept": "text/event-stream"}),
    (ECHO, {"Accept": "application/json"}),
    (ECHO, {"MCP-Protocol-Version": "1999-01-01"}), ('{"jsonrpc": "2.0", "id": 1, "result": {}}', {}),
    ('{"jsonrpc": "2.0", "method": "notifications/initialized"}', {}),
    ('{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}', {}),
)  # fmt: skip


@pytest.mark.parametrize("version", ["2024-11-05", "2025-11-25", None])
async def test_requests_are_answered_alike(version: str | None) -> None:
    headers = {"MCP-Protocol-Version": version} if version else {}
    async with both() as http:
        for body in PLAIN:
            theirs = await http.post("/transport", content=body, headers=headers)
            ours = await http.post("/direct", content=body, headers=headers)
            assert (ours.status_code, last(ours)) == (theirs.status_code, last(theirs)), body
            assert ours.headers["content-type"] == theirs.headers["content-type"].partition(";")[0]


async def test_a_defect_is_an_answer_that_tells_nothing_of_it() -> None:
    async with both() as http:
        answer = await http.post("/direct", content=CALL % ("7", '{"name": "defect"}'))
        assert last(answer) == {
            "jsonrpc": "2.0", "id": 7, "error": {"code": mcp_types.INTERNAL_ERROR, "message": "Internal error"},
        }  # fmt: skip


async def test_foreign_requests_are_refused_alike() -> None:
    foreign = {"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Content-Type": "text/plain"}
    async with both() as http:
        for headers, status in zip(foreign, (421, 403, 400), strict=True):
            theirs = await http.post("/transport", content=ECHO, headers=headers)
            ours = await http.post("/direct", content=ECHO, headers=headers)
            assert (ours.status_code, ours.text) == (theirs.status_code, theirs.text)
            assert ours.status_code == status


async def test_whatever_is_no_plain_request_is_left_to_the_transport() -> None:
    async with both() as http:
        for body, headers in OTHERS:
            assert (await http.post("/direct", content=body, headers=headers)).status_code == LEFT, (body, headers)
