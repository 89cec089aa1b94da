"""``smart-city mcp``: a host sees over standard streams what it would see over HTTP."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import mcp_types
import pytest
from mcp import Client, MCPError

from city_hall.bridge.upstream import Upstream
from city_hall.surfaces.mcp.prompts import PROMPTS
from city_inspector.faulting_proxy import FaultingProxy
from tests.contract.tools import opened, tool
from tests.support.bridged import RawBridge, bridged
from tests.support.http_server import listener
from tests.support.parity import MODES
from tests.support.platform import OPERATOR_TOKEN, Instance
from tests.support.waiting import PATIENCE, eventually, until

both_eras = pytest.mark.parametrize("era", MODES)
# The handshake era has resources/subscribe; the client says so each time that a later one has not.
pytestmark = pytest.mark.filterwarnings("ignore:resources/(un)?subscribe is removed")
GUIDE, CONTENT = "channel://guide", "channel://pillar%3Acontent"


async def say(city: Instance, channel: str = "guide") -> None:
    await city.done("post_office.publish_to_agent_channel", {"channel": channel, "message": {"message": "news"}})


async def consumers_are(city: Instance, count: int) -> None:
    async def are() -> bool:
        status = await city.done("post_office.get_queue_status", {"channel": "guide"})
        return bool(status["channels"]["guide"]["consumers"] == count)

    await eventually(are, f"{count} wait", seconds=15)


def receiving(client: Client, consumer: str, **options: Any) -> asyncio.Task[mcp_types.CallToolResult]:
    arguments = {"consumer": consumer, "wait_ms": 30_000}
    return asyncio.create_task(client.call_tool("post_office_receive_messages", arguments, **options))


async def listed(client: Client) -> dict[str, Any]:
    """Everything that a server lists, as it stands on the wire."""
    found: list[list[Any]] = [
        (await client.list_tools()).tools, (await client.list_resources()).resources,
        (await client.list_resource_templates()).resource_templates, (await client.list_prompts()).prompts,
    ]  # fmt: skip
    who = client.server_info
    return {
        "lists": [[one.model_dump(exclude_none=True) for one in some] for some in found],
        "who": who.model_dump() if who else None, "instructions": client.instructions,
        "version": client.protocol_version,
    }  # fmt: skip


@both_eras
async def test_a_host_sees_what_it_would_see_over_http(city: Instance, era: str) -> None:
    async with bridged(city.url, era=era) as client, opened(city, era=era) as over_http:
        assert await listed(client) == await listed(over_http)
        template = mcp_types.ResourceTemplateReference(type="ref/resource", uri="channel://{channel}")
        found = await client.complete(template, {"name": "channel", "value": "g"})
        assert found.completion.values == ["guide"]
        told = await client.get_prompt(PROMPTS[0].name, {"channel": "guide"})
        assert told == await over_http.get_prompt(PROMPTS[0].name, {"channel": "guide"})


@both_eras
async def test_results_refusals_and_errors_are_the_platforms(city: Instance, era: str) -> None:
    async with bridged(city.url, await city.service("reader", "post_office.history"), era) as client:
        page = await tool(client, "post_office_get_channel_history", channel="guide")
        assert page["publications"] == []
        refused = await client.call_tool("post_office_list_channels", {})
        assert refused.is_error
        assert (refused.structured_content or {})["code"] == "forbidden"
        (content,) = (await client.read_resource(GUIDE)).contents
        assert isinstance(content, mcp_types.TextResourceContents)
        assert json.loads(content.text)["channel"] == "guide"
        with pytest.raises(MCPError) as caught:
            await client.read_resource("channel://nowhere")
        assert caught.value.data["code"] == "unknown_channel"


@both_eras
async def test_a_call_that_waits_tells_its_progress_and_can_be_cancelled(city: Instance, era: str) -> None:
    told: list[float] = []

    async def hear(progress: float, _total: float | None, _message: str | None) -> None:
        told.append(progress)

    async with bridged(city.url, era=era) as client:
        made = await tool(client, "post_office_subscribe_to_channel", channel="guide", mode="inbox")
        call = receiving(client, made["consumer"], progress_callback=hear)
        await until(lambda: bool(told), "it tells that it waits", seconds=20)
        await consumers_are(city, 1)
        call.cancel()
        await consumers_are(city, 0)
        await asyncio.gather(call, return_exceptions=True)


@both_eras
async def test_changes_are_told(city: Instance, era: str) -> None:
    heard: list[Any] = []

    async def hear(message: Any) -> None:
        heard.append(message)

    async with bridged(city.url, era=era, message_handler=hear) as client:
        if era == "legacy":
            await client.subscribe_resource(GUIDE)
            await client.subscribe_resource(CONTENT)
            await client.unsubscribe_resource(GUIDE)
            await say(city)
            await say(city, "pillar:content")
            await until(lambda: bool(heard), "a change is told", seconds=15)
            assert [message.params.uri for message in heard] == [CONTENT]
        else:
            async with client.listen(resource_subscriptions=[GUIDE]) as stream:
                assert stream.honored.resource_subscriptions == [GUIDE]
                await say(city)
                event = await asyncio.wait_for(anext(stream), 15)
                assert event.uri == GUIDE  # type: ignore[union-attr]  # only resources change here


@both_eras
async def test_what_may_not_be_heard_is_refused_and_the_rest_goes_on(city: Instance, era: str) -> None:
    heard: list[Any] = []

    async def hear(message: Any) -> None:
        heard.append(message)

    async with bridged(city.url, era=era, message_handler=hear) as client:
        if era == "legacy":
            await client.subscribe_resource(GUIDE)
        with pytest.raises(MCPError) as caught:
            if era == "legacy":
                await client.subscribe_resource("channel://nowhere")
            else:
                async with client.listen(resource_subscriptions=["channel://nowhere"]):
                    pass
        assert caught.value.data["code"] == "unknown_channel"
        if era == "legacy":
            await say(city)
            await until(lambda: bool(heard), "a change is told", seconds=15)


async def test_a_lost_connection_costs_what_was_under_way_and_nothing_else(city: Instance) -> None:
    heard: list[Any] = []

    async def hear(message: Any) -> None:
        heard.append(message)

    async with (
        FaultingProxy(city.settings.port) as proxy,
        bridged(f"http://127.0.0.1:{proxy.port}", era="legacy", message_handler=hear) as client,
    ):
        await client.subscribe_resource(GUIDE)
        made = await tool(client, "post_office_subscribe_to_channel", channel="guide", mode="inbox")
        call = receiving(client, made["consumer"])
        await consumers_are(city, 1)
        proxy.cut()
        with pytest.raises(MCPError):
            await asyncio.wait_for(call, PATIENCE)
        await tool(client, "post_office_list_channels")
        await until(lambda: bool(heard), "it is told that something may have changed", seconds=15)
        heard.clear()
        await say(city)
        await until(lambda: bool(heard), "changes are told again", seconds=15)


async def test_a_token_that_is_revoked_is_told_as_what_it_is(city: Instance) -> None:
    token = await city.session("alice")
    async with bridged(city.url, token) as client:
        await client.list_resources()
        await city.done("traffic_cop.revoke_session", {"user_id": "alice"})
        with pytest.raises(MCPError) as caught:
            await client.call_tool("post_office_get_channel_history", {"channel": "guide"})
        assert (caught.value.data["code"], caught.value.data["retryable"]) == ("unauthenticated", False)


async def test_a_platform_that_is_away_is_told_as_unavailable() -> None:
    with listener() as closed:
        port = closed.getsockname()[1]
    async with Upstream(f"http://127.0.0.1:{port}", OPERATOR_TOKEN) as upstream:
        with pytest.raises(MCPError) as caught:
            await upstream.ask(mcp_types.ListToolsRequest(), mcp_types.ListToolsResult)
        assert (caught.value.data["code"], caught.value.data["retryable"]) == ("unavailable", True)


# The process


async def test_standard_output_has_the_protocol_and_nothing_else(city: Instance) -> None:
    async with RawBridge.started(city.url) as bridge:
        answer = await bridge.introduced()
        assert answer["result"]["serverInfo"]["name"] == "smart-city"
        await bridge.send({"id": 2, "method": "tools/list"})
        assert (await bridge.next())["id"] == 2
        assert bridge.process.stdin is not None
        bridge.process.stdin.write(b"\n  \nthis is no message\n")
        await bridge.send({"id": "3", "method": "tools/fly"})
        assert (await bridge.next())["error"]["code"] == -32601
        bridge.process.stdin.close()
        assert await bridge.ended() == (0, "", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_while_a_call_waits(city: Instance, number: signal.Signals) -> None:
    consumer = (await city.done("post_office.subscribe_to_channel", {"channel": "guide", "mode": "inbox"}))["consumer"]
    async with RawBridge.started(city.url) as bridge:
        await bridge.introduced()
        wanted = {"name": "post_office_receive_messages", "arguments": {"consumer": consumer, "wait_ms": 30_000}}
        await bridge.send({"id": 2, "method": "tools/call", "params": wanted})
        await consumers_are(city, 1)
        bridge.process.send_signal(number)
        status, _, errors = await bridge.ended()
        assert (status, errors) == (0, "")
        await consumers_are(city, 0)


async def test_it_ends_when_nobody_introduced_itself(city: Instance) -> None:
    async with RawBridge.started(city.url) as bridge:
        assert bridge.process.stdin is not None
        bridge.process.stdin.close()
        assert await bridge.ended() == (0, "", "")


async def test_it_says_why_it_cannot_begin(city: Instance) -> None:
    with listener() as closed:
        port = closed.getsockname()[1]
    cases = ((f"http://127.0.0.1:{port}", OPERATOR_TOKEN, 3), (city.url, "svc_unknown", 1), ("nowhere", "", 2))
    for url, token, expected in cases:
        async with RawBridge.started(url, token) as bridge:
            status, out, errors = await bridge.ended()
            assert (status, out) == (expected, ""), errors
            assert errors
            assert "Traceback" not in errors
    async with RawBridge.started(city.url, "svc_unknown", "--json") as bridge:
        _, _, errors = await bridge.ended()
        assert json.loads(errors)["error"]["code"] == "unauthenticated"
