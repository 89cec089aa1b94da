"""MCP's handshake era below its client: sessions that are their caller's alone, their streams, and odd requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx2
import pytest
from mcp_types import ResourceTemplateReference

from tests.contract.raw import dialled
from tests.contract.streams import Stream, get
from tests.contract.tools import opened, tool
from tests.support.platform import OPERATOR_TOKEN, Instance, Platform, unique
from tests.support.valkey import ValkeyServer
from tests.support.waiting import ROOM

in_town = pytest.mark.asyncio(loop_scope="module")
Frame = dict[str, Any]
ACCEPT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
VERSION = "2025-06-18"


def rpc(method: str, number: Any = 1, **params: Any) -> Frame:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


async def post(city: Instance, body: Frame, session: str = "", token: str = OPERATOR_TOKEN) -> httpx2.Response:
    headers = ACCEPT | {"Authorization": f"Bearer {token}", "MCP-Protocol-Version": VERSION}
    headers |= {"Mcp-Session-Id": session} if session else {}
    return await city.http.post("/mcp", json=body, headers=headers)


def answer(response: httpx2.Response) -> Frame:
    """The JSON-RPC message, whether it came as JSON or as an event."""
    text = response.text
    if response.headers["content-type"].startswith("text/event-stream"):
        text = [line for line in text.splitlines() if line.startswith("data:")][-1][5:]
    value: Frame = json.loads(text)
    return value


async def begun(city: Instance, token: str = OPERATOR_TOKEN) -> str:
    """A session's id."""
    hello = rpc("initialize", protocolVersion=VERSION, capabilities={}, clientInfo={"name": "t", "version": "1"})
    response = await post(city, hello, token=token)
    assert response.status_code == 200, response.text
    session = response.headers["mcp-session-id"]
    await post(city, {"jsonrpc": "2.0", "method": "notifications/initialized"}, session, token)
    return str(session)


@asynccontextmanager
async def listening(city: Instance, session: str, token: str = OPERATOR_TOKEN) -> AsyncIterator[Stream]:
    """The session's stream; a refusal has its status."""
    async with dialled(city.url) as raw:
        given = {"Mcp-Session-Id": session, "MCP-Protocol-Version": VERSION}
        await raw.send(get("/mcp", token, **given))
        yield Stream(raw, *await raw.response())


async def told(stream: Stream, seconds: float = 5.0) -> str:
    """The address in the next change."""
    while True:
        event = await stream.next(seconds)
        if event.value.get("method") == "notifications/resources/updated":
            return str(event.value["params"]["uri"])


async def say(city: Instance, channel: str) -> None:
    await city.done("post_office.publish_to_agent_channel", {"channel": channel, "message": {}})


async def subscribe(city: Instance, session: str, uri: str, token: str = OPERATOR_TOKEN) -> Frame:
    return answer(await post(city, rpc("resources/subscribe", uri=uri), session, token))


@in_town
async def test_a_session_hears_what_it_subscribed_to(town: Instance, channel: str) -> None:
    session = await begun(town)
    uri = f"channel://{channel}"
    async with listening(town, session) as stream:
        assert stream.status == 200
        assert "result" in await subscribe(town, session, uri)
        await say(town, channel)
        assert await told(stream) == uri
        assert "result" in answer(await post(town, rpc("resources/unsubscribe", uri=uri), session))
        await subscribe(town, session, "channel://guide")
        await say(town, "guide")
        while await told(stream) != "channel://guide":
            pass  # what was on its way may still come
        await say(town, channel)
        await say(town, "guide")
        assert await told(stream) == "channel://guide"


async def test_what_changed_while_nobody_listened_is_told_on_any_instance(platform: Platform) -> None:
    east, west = await platform.start(), await platform.start()
    session = await begun(east)
    await subscribe(east, session, "channel://guide")
    async with listening(west, session) as stream:
        await say(east, "guide")
        assert await told(stream) == "channel://guide"
    await say(east, "guide")
    async with listening(east, session) as stream:
        assert await told(stream) == "channel://guide"


@in_town
async def test_a_session_is_its_callers_alone(town: Instance, channel: str) -> None:
    """The id is no secret that opens anything: a stranger who has it gets nothing of it and cannot end it."""
    session = await begun(town)
    await subscribe(town, session, f"channel://{channel}")
    stranger = await town.service(unique("stranger"), "post_office.history", "post_office.observe")
    async with listening(town, session) as stream:
        async with listening(town, session, stranger) as other:
            await subscribe(town, session, "channel://guide", stranger)
            headers = {"Authorization": f"Bearer {stranger}", "Mcp-Session-Id": session}
            await town.http.delete("/mcp", headers={**headers, "MCP-Protocol-Version": VERSION})
            await say(town, channel)
            assert await told(stream) == f"channel://{channel}", "its own stream goes on"
            if other.status == 200:
                await say(town, "guide")
                with pytest.raises((TimeoutError, AssertionError)):
                    assert await told(other, 1) == "channel://guide", "of what is not its own it hears nothing"
                    raise AssertionError
        await say(town, channel)
        assert await told(stream) == f"channel://{channel}", "its own stream goes on"


@in_town
async def test_a_session_that_was_ended_hears_no_more(town: Instance, channel: str) -> None:
    session = await begun(town)
    await subscribe(town, session, f"channel://{channel}")
    async with listening(town, session) as stream:
        headers = {**town.operator, "Mcp-Session-Id": session, "MCP-Protocol-Version": VERSION}
        assert (await town.http.delete("/mcp", headers=headers)).status_code in {200, 202, 204}
        await say(town, channel)
        try:
            left = await stream.rest(2)
        except TimeoutError:
            left = []
        assert not [event for event in left if "updated" in event.data]


@in_town
@pytest.mark.parametrize(
    "session", ["nonsense", "x" * 5000, "../..", "{guide}", "a b", "%00", "\xff\xfe", "0", "'; DROP", "mcp:*", "1\t2"]
)
async def test_an_odd_session_is_no_defect(town: Instance, session: str) -> None:
    body = json.dumps(rpc("resources/subscribe", uri="channel://guide")).encode()
    given = {"Mcp_Session_Id": session, "MCP_Protocol_Version": VERSION, "Content_Type": "application/json"}
    async with dialled(town.url) as raw:
        head = get("/mcp", OPERATOR_TOKEN, **given, Accept=ACCEPT["Accept"], Content_Length=str(len(body)))
        head = head.replace(b"GET", b"POST", 1)
        await raw.send(head + body)
        stream = Stream(raw, *await raw.response())
        assert stream.status < 500
        if stream.status == 200:
            answered = (await stream.next()).value
            assert answered.get("error", {}).get("code") != -32603, answered


@in_town
async def test_a_newer_stream_ends_the_older(town: Instance, channel: str) -> None:
    session = await begun(town)
    await subscribe(town, session, f"channel://{channel}")
    async with listening(town, session) as older, listening(town, session) as newer:
        await older.rest()
        await say(town, channel)
        assert await told(newer) == f"channel://{channel}"


@in_town
async def test_a_call_is_cancelled_by_its_id_and_by_its_caller_alone(town: Instance, channel: str) -> None:
    consumer = (await town.done("post_office.subscribe_to_channel", {"channel": channel, "mode": "inbox"}))["consumer"]
    session, other = await begun(town), await begun(town)
    call = rpc("tools/call", 77, name="post_office_receive_messages",
               arguments={"consumer": consumer, "max": 1, "wait_ms": 15000})  # fmt: skip
    waiting = asyncio.create_task(post(town, call, session))
    await asyncio.wait({waiting}, timeout=0.3)
    note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 77}}
    await post(town, note, other)
    await post(town, {**note, "params": {"requestId": 78}}, session)
    await asyncio.wait({waiting}, timeout=0.5)
    assert not waiting.done(), "neither the same number in another session nor another number"
    await post(town, note, session)
    async with asyncio.timeout(ROOM):
        await asyncio.gather(waiting, return_exceptions=True)


@in_town
@pytest.mark.parametrize(
    "note",
    [{"method": "notifications/cancelled"}, {"method": "notifications/cancelled", "params": {"requestId": None}},
     {"method": "notifications/cancelled", "params": {"requestId": {"a": 1}}}, {"method": "notifications/nonsense"},
     {"method": "notifications/cancelled", "params": []}, {"method": "notifications/roots/list_changed"}],
    ids=str,
)  # fmt: skip
async def test_an_odd_notification_breaks_nothing(town: Instance, note: Frame) -> None:
    session = await begun(town)
    assert (await post(town, {"jsonrpc": "2.0", **note}, session)).status_code < 500
    assert "result" in answer(await post(town, rpc("tools/list"), session))


@in_town
async def test_names_of_channels_are_completed_only_for_who_may_read_them(town: Instance, channel: str) -> None:
    token = await town.session(unique("alice"), channels={channel: ["history", "subscribe"]})
    async with opened(town, token, "legacy") as client:
        for template in (await client.list_resource_templates()).resource_templates:
            for name in ("channel", "name"):
                if name not in template.uri_template:
                    continue
                reference = ResourceTemplateReference(type="ref/resource", uri=template.uri_template)
                found = (await client.complete(reference, {"name": name, "value": "pillar"})).completion.values
                assert set(found) <= {channel, channel.replace(":", "%3A")}, found
        assert await tool(client, "traffic_cop_get_caller_identity")


async def test_a_caller_has_so_many_streams_and_no_more(platform: Platform) -> None:
    city = await platform.start(max_connections_per_user=3, max_listeners=5)
    mallory, alice = [await city.service(unique(name), "post_office.history") for name in ("mallory", "alice")]
    async with AsyncExitStack() as stack:
        statuses = []
        for _ in range(6):
            session = await begun(city, mallory)
            statuses.append((await stack.enter_async_context(listening(city, session, mallory))).status)
        assert statuses[:3] == [200] * 3
        assert all(status in {429, 503} for status in statuses[3:]), statuses
        session = await begun(city, alice)
        assert (await stack.enter_async_context(listening(city, session, alice))).status == 200
    assert (await city.http.get("/health/ready")).status_code == 200


async def test_a_store_that_is_away_for_a_moment_costs_nobody_the_session() -> None:
    with ValkeyServer() as valkey:
        async with AsyncExitStack() as stack:
            city = await Platform(valkey, stack).start(valkey_timeout_seconds=0.2)
            asyncio.get_running_loop().call_later(0.7, valkey.resume)
            valkey.hang()
            session = await begun(city)
            async with listening(city, session) as stream:
                assert stream.status == 200


async def test_sessions_that_nobody_uses_cost_little(platform: Platform) -> None:
    city = await platform.start()
    for _ in range(5):
        await asyncio.gather(*(begun(city) for _ in range(20)))
    async with opened(city) as client:
        assert await tool(client, "post_office_list_channels")
