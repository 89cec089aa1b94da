"""The MCP surface, by the official client over HTTP, sessionless and with a handshake."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import mcp_types
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from city_hall.surfaces.http import ENVELOPE_BYTES
from tests.support.example_city import ALICE, AWAY, OPERATOR, PUBLISHER, ExampleCity
from tests.support.http_server import serving
from tests.support.parity import MODES, plain_client
from tests.support.waiting import PATIENCE

ACCEPT = {"Accept": "application/json, text/event-stream"}
EVERYWHERE = "0.0.0.0"  # noqa: S104  # a setting that is looked at; nothing is bound to it
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
both_eras = pytest.mark.parametrize("mode", MODES)


@pytest.fixture
def city() -> ExampleCity:
    return ExampleCity()


@pytest.fixture
async def url(city: ExampleCity) -> AsyncIterator[str]:
    async with serving(city.app) as address:
        yield address


@asynccontextmanager
async def connected(url: str, token: str, mode: str) -> AsyncIterator[Client]:
    """The official client, with a bearer token."""
    async with (
        plain_client(url, Authorization=f"Bearer {token}") as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


def refusal_in(answer: mcp_types.CallToolResult) -> dict[str, Any]:
    """The structured refusal, told in the text as well."""
    assert answer.is_error
    (text,) = answer.content
    assert isinstance(text, mcp_types.TextContent)
    assert isinstance(answer.structured_content, dict)
    assert json.loads(text.text) == answer.structured_content
    return answer.structured_content


@both_eras
async def test_both_eras_are_served_on_one_url(url: str, mode: str) -> None:
    async with connected(url, PUBLISHER, mode) as client:
        assert (client.protocol_version == "2026-07-28") == (mode == "auto")
        assert client.server_info is not None
        assert (client.server_info.name, client.server_info.version) == ("smart-city", "1.2.3")
        assert "post_office_receive_messages" in (client.instructions or "")


@both_eras
async def test_every_operation_is_a_tool_with_its_schemas_and_hints(city: ExampleCity, url: str, mode: str) -> None:
    async with connected(url, PUBLISHER, mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert list(tools) == [entry.operation.tool_name for entry in city.catalogue]
    for entry in city.catalogue:
        tool, declared = tools[entry.operation.tool_name], entry.operation.declared
        assert tool.input_schema == entry.input_schema
        assert tool.output_schema is not None
        assert tool.output_schema["oneOf"][0] == entry.output_schema
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint == declared.read_only
        assert tool.annotations.destructive_hint == declared.destructive
        assert tool.annotations.idempotent_hint == declared.idempotent
        assert tool.annotations.open_world_hint is False
        assert entry.operation.summary in (tool.description or "")
        assert declared.scope in (tool.description or "")


@both_eras
async def test_a_result_is_what_http_answers(url: str, mode: str) -> None:
    arguments = {"payload": {"text": "ü", "nothing": None, "deep": [{"n": None}]}, "key": "k1"}
    async with connected(url, PUBLISHER, mode) as client:
        answer = await client.call_tool("example_echo", arguments)
    assert not answer.is_error
    assert answer.structured_content is not None
    told = dict(answer.structured_content)
    assert len(told.pop("trace")) == 32
    assert told == {"success": True, **arguments}


@both_eras
async def test_a_session_token_may_call_what_sessions_may(url: str, mode: str) -> None:
    async with connected(url, ALICE, mode) as client:
        answer = await client.call_tool("example_who_am_i", {})
        assert answer.structured_content == {"success": True, "subject": "alice", "kind": "session"}
        assert refusal_in(await client.call_tool("example_add", {"parts": []}))["code"] == "forbidden"


@both_eras
async def test_a_refusal_is_a_result_that_says_what_to_do(url: str, mode: str) -> None:
    async with connected(url, OPERATOR, mode) as client:
        answer = await client.call_tool("example_refuse", {"code": "overloaded", "retry_after": 1.5})
        assert refusal_in(answer) == {
            "success": False, "code": "overloaded", "message": "refused with overloaded", "retryable": True,
            "retry_after": 1.5,
        }  # fmt: skip
        refusal = refusal_in(await client.call_tool("example_add", {"parts": [{"name": "a", "amount": "1"}]}))
        assert [wrong["field"] for wrong in refusal["errors"]] == ["parts.0.amount"]


@both_eras
async def test_a_defect_tells_nothing_of_the_inside(url: str, mode: str) -> None:
    async with connected(url, OPERATOR, mode) as client:
        refusal = refusal_in(await client.call_tool("example_break_down", {}))
    assert refusal["code"] == "internal"
    assert "secret" not in refusal["message"]


@both_eras
async def test_an_unknown_tool_is_a_protocol_error(url: str, mode: str) -> None:
    async with connected(url, OPERATOR, mode) as client:
        with pytest.raises(MCPError) as caught:
            await client.call_tool("example_unknown", {"a": 1})
    assert caught.value.code == mcp_types.INVALID_PARAMS
    assert caught.value.data["code"] == "not_found"


@both_eras
async def test_the_trace_of_the_caller_reaches_the_operation(url: str, mode: str) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    meta: Any = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    async with connected(url, PUBLISHER, mode) as client:
        answer = await client.call_tool("example_echo", {"payload": {}}, meta=meta)
    assert answer.structured_content is not None
    assert answer.structured_content["trace"] == trace


@both_eras
async def test_a_long_poll_whose_caller_leaves_is_given_up(city: ExampleCity, url: str, mode: str) -> None:
    async def poll() -> None:
        async with connected(url, OPERATOR, mode) as client:
            await client.call_tool("example_wait", {})

    call = asyncio.create_task(poll())
    await asyncio.wait_for(city.service.began.wait(), PATIENCE)
    call.cancel()
    await asyncio.wait_for(city.service.cancelled.wait(), PATIENCE)


async def test_stopping_the_server_ends_what_still_waits(city: ExampleCity) -> None:
    async def poll(url: str) -> None:
        async with connected(url, OPERATOR, "legacy") as client:
            await client.call_tool("example_wait", {})

    async with serving(city.app) as url:
        call = asyncio.create_task(poll(url))
        await asyncio.wait_for(city.service.began.wait(), PATIENCE)
    await asyncio.wait_for(city.service.cancelled.wait(), PATIENCE)
    with pytest.raises(BaseException):  # noqa: B017  # whatever the client makes of a closed connection
        await call


# At the door


async def post(url: str, token: str = "", body: Any = PING, **headers: str) -> httpx2.Response:
    authorization = {"Authorization": f"Bearer {token}"} if token else {}
    async with plain_client(url) as http:
        return await http.post("/mcp", json=body, headers={**ACCEPT, **authorization, **headers})


async def test_no_session_is_opened(url: str) -> None:
    initialize = {
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"},
        },
    }  # fmt: skip
    response = await post(url, PUBLISHER, initialize)
    assert response.status_code == 200
    assert "mcp-session-id" not in response.headers


async def test_without_a_good_token_nothing_is_served(url: str) -> None:
    for token in ("", "svc_unknown"):
        response = await post(url, token)
        assert response.status_code == 401
        assert response.headers["www-authenticate"].startswith("Bearer")
        assert response.json()["code"] == "unauthenticated"


async def test_a_token_that_nobody_can_judge_now_is_not_called_bad(url: str) -> None:
    response = await post(url, AWAY)
    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert response.headers["retry-after"] == "2"


async def test_foreign_hosts_and_pages_are_turned_away(url: str) -> None:
    assert (await post(url, PUBLISHER)).status_code == 200
    assert (await post(url, PUBLISHER, Host="evil.example")).status_code == 421
    assert (await post(url, PUBLISHER, Origin="https://evil.example")).status_code == 403
    assert (await post(url, PUBLISHER, Origin="http://localhost:6274")).status_code == 200


async def test_the_public_url_and_allowed_origins_are_let_in() -> None:
    city = ExampleCity(host=EVERYWHERE, public_url="https://city.example", allowed_origins="https://pages.example")
    async with serving(city.app) as url:
        assert (await post(url, PUBLISHER, Host="city.example")).status_code == 200
        for origin in ("https://city.example", "https://pages.example"):
            assert (await post(url, PUBLISHER, Host="city.example", Origin=origin)).status_code == 200
        foreign = await post(url, PUBLISHER, Host="city.example", Origin="http://localhost:6274")
        assert foreign.status_code == 403
        assert (await post(url, PUBLISHER, Host="evil.example")).status_code == 421


async def test_bound_to_every_address_without_a_public_url_any_name_is_taken() -> None:
    city = ExampleCity(host=EVERYWHERE)
    async with serving(city.app) as url:
        assert (await post(url, PUBLISHER, Host="whatever.example")).status_code == 200
        assert (await post(url, Host="whatever.example")).status_code == 401


async def test_a_request_above_the_limit_is_refused() -> None:
    city = ExampleCity(max_message_bytes=1024)
    async with serving(city.app) as url:
        response = await post(url, PUBLISHER, {**PING, "params": {"x": "y" * (1024 + ENVELOPE_BYTES)}})
        assert (response.status_code, response.json()["code"]) == (413, "too_large")
