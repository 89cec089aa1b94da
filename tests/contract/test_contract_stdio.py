"""``smart-city mcp``: what HTTP offers a tool's user, over the standard streams of a process that is no platform."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from tests.contract import resources
from tests.contract.agents import asked, asker_of
from tests.contract.commands import SECONDS, environment, running, smart_city
from tests.contract.resources import address
from tests.contract.shapes import text_of
from tests.contract.tools import opened, tool
from tests.support.platform import OPERATOR_TOKEN, Instance, Platform, unique
from tests.support.ports import free_port

in_town = pytest.mark.asyncio(loop_scope="module")
ERAS = pytest.mark.parametrize("era", ["auto", "legacy"])
Frame = dict[str, Any]


@asynccontextmanager
async def by_stdio(
    city: Instance, errors: Path, token: str = OPERATOR_TOKEN, era: str = "auto"
) -> AsyncIterator[Client]:
    """The official client on a process of its own."""
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "city_hall", "mcp"], env=dict(environment(city.url, token))
    )
    with errors.open("w") as log:
        async with Client(stdio_client(server, errlog=log), mode=era) as client:
            yield client


@pytest.fixture
def errors(tmp_path: Path) -> Path:
    return tmp_path / "stderr"


@in_town
@ERAS
async def test_it_offers_what_http_offers(town: Instance, channel: str, errors: Path, era: str) -> None:
    async with by_stdio(town, errors, era=era) as near, opened(town, era=era) as far:
        here, there = [{t.name: t for t in (await client.list_tools()).tools} for client in (near, far)]
        assert here == there
        assert {r.uri for r in (await near.list_resources()).resources} == {
            r.uri for r in (await far.list_resources()).resources
        }
        assert (await near.list_resource_templates()).resource_templates == (
            await far.list_resource_templates()
        ).resource_templates
        assert (await near.list_prompts()).prompts == (await far.list_prompts()).prompts
        sent = await tool(near, "post_office_publish_to_agent_channel", channel=channel, message={"n": 1})
        assert sent["status"] == "published"
        page = await resources.read(near, f"channel://{channel}")
        assert text_of(page) == text_of(sent)
        refusals = [
            await client.call_tool("post_office_publish_to_agent_channel", {"channel": "nowhere", "message": {}})
            for client in (near, far)
        ]
        assert refusals[0].is_error
        assert refusals[0].structured_content == refusals[1].structured_content


@in_town
async def test_an_agent_can_live_by_it(town: Instance, channel: str, errors: Path) -> None:
    token = await town.service(unique("thinker"), "post_office.consume", "post_office.history")
    async with by_stdio(town, errors, token) as client, asker_of(town) as alice:
        consumer = (await tool(client, "post_office_subscribe_to_channel", channel=channel, mode="inbox"))["consumer"]
        waiting = asyncio.create_task(
            tool(client, "post_office_receive_messages", consumer=consumer, max=1, wait_ms=10000)
        )
        await asked(alice, channel)
        (delivery,) = (await waiting)["deliveries"]
        await tool(client, "post_office_reply", delivery_id=delivery["delivery_id"], payload={"message": "thought"})
        assert (await alice.of("chat_response"))["payload"] == {"message": "thought"}
        refused = await client.call_tool("post_office_list_channels", {})
        assert (refused.structured_content or {})["code"] == "forbidden", "the token's scopes hold"


@in_town
async def test_it_tells_of_changes(town: Instance, channel: str, errors: Path) -> None:
    async with (
        by_stdio(town, errors) as client,
        client.listen(resource_subscriptions=[address(channel)]) as heard,
    ):
        await tool(client, "post_office_publish_to_agent_channel", channel=channel, message={"n": 1})
        async with asyncio.timeout(SECONDS):
            event = await anext(heard)
        assert str(getattr(event, "uri", "")) == address(channel)


@in_town
async def test_its_output_is_the_protocol_and_nothing_else(town: Instance) -> None:
    lines: list[Any] = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        "this is no JSON", "[" * 5000, "", {"jsonrpc": "2.0", "id": 2, "method": "fly"}, "\x00", "{}", "7",
        {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {
            "name": "post_office_list_channels", "arguments": {"x": 1}}},
        {"jsonrpc": "2.0", "id": 4, "method": "tools/list"},
    ]  # fmt: skip
    given = "".join((item if isinstance(item, str) else json.dumps(item)) + "\n" for item in lines).encode()
    async with running("mcp", url=town.url, token=OPERATOR_TOKEN) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(given)
        answers: dict[Any, Frame] = {}
        async with asyncio.timeout(SECONDS):
            while 4 not in answers:
                answer = json.loads(await process.stdout.readline())
                assert answer["jsonrpc"] == "2.0"
                answers[answer.get("id")] = answer
            assert answers[2]["error"]["code"] == -32601
            assert answers[3]["result"]["isError"] is True
            assert answers[4]["result"]["tools"]
            process.stdin.close()
            assert await process.wait() == 0, "who closes its input ends it"
        for said in (await process.stdout.read()).splitlines():
            assert json.loads(said)["jsonrpc"] == "2.0"
        assert process.stderr is not None
        assert OPERATOR_TOKEN.encode() not in await process.stderr.read()


async def test_where_nothing_answers_it_ends_with_3() -> None:
    ended = await smart_city("mcp", url=f"http://127.0.0.1:{free_port()}", token=OPERATOR_TOKEN)
    assert (ended.status, ended.out) == (3, "")
    assert ended.err


@in_town
async def test_with_a_token_that_is_not_good_it_ends_with_1(town: Instance) -> None:
    ended = await smart_city("mcp", url=town.url, token="svc_" + "x" * 43)
    assert (ended.status, ended.out) == (1, "")
    assert "unauthenticated" in ended.err
    assert "x" * 43 not in ended.err


async def test_calls_of_a_client_whose_platform_has_gone_fail_in_time(platform: Platform, errors: Path) -> None:
    async with platform.instance() as city:
        near = by_stdio(city, errors)
        client = await near.__aenter__()
        assert await tool(client, "post_office_list_channels")
    try:
        async with asyncio.timeout(SECONDS):
            try:
                answer = await client.call_tool("post_office_list_channels", {})
                assert answer.is_error
                assert (answer.structured_content or {}).get("code", "unavailable") == "unavailable"
            except Exception as error:
                assert "MCPError" in type(error).__name__, error
    finally:
        await near.__aexit__(None, None, None)


@in_town
async def test_thousands_of_bytes_of_arguments_and_many_calls_at_once_are_whole(
    town: Instance, channel: str, errors: Path
) -> None:
    async with by_stdio(town, errors) as client:
        text = "naïve \u2028 \x00 \n " * 2_000
        name = "post_office_publish_to_agent_channel"
        async with asyncio.TaskGroup() as group:
            for n in range(20):
                group.create_task(tool(client, name, channel=channel, message={"n": n, "text": text}))
        page = await tool(client, "post_office_get_channel_history", channel=channel)
        assert sorted(entry["payload"]["n"] for entry in page["publications"]) == list(range(20))
        assert {entry["payload"]["text"] for entry in page["publications"]} == {text}
