"""Channels as MCP resources, in both eras: listed and read as one may, told of changes on any instance; and prompts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import mcp_types as types
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import Subscription
from mcp.shared.exceptions import MCPError

from tests.contract import resources
from tests.contract.resources import address
from tests.contract.shapes import text_of
from tests.contract.tools import opened
from tests.support.parity import plain_client
from tests.support.platform import OPERATOR_TOKEN, Instance, Platform, unique
from tests.support.waiting import PATIENCE, ROOM

in_town = pytest.mark.asyncio(loop_scope="module")
ERAS = pytest.mark.parametrize("era", ["auto", "legacy"])
Frame = dict[str, Any]
ODD_ADDRESSES = [
    "channel://nowhere", "channel://", "channel:guide", "channel:///guide", "channel://guide/..", "file:///etc/passwd",
    "channel://pillar:*", "channel://user:", "channel://connection:x", "CHANNEL://GUIDE", "http://127.0.0.1/", "x", "",
    "channel://guide?since=nonsense", "channel://guide?limit=-1", "channel://guide?limit=99999999999999999999",
    "channel://guide?unheard=of", "channel://guide%00", "channel://gu\u0131de", "channel://" + "g" * 100_000,
    "channel://guide?since=1&since=2", "channel://guide#frag", "channel://me@guide", "channel://guide:80",
    "channel://[::1",
]  # fmt: skip
AGENT = ("post_office.consume", "post_office.publish", "post_office.history", "post_office.observe")


async def say(city: Instance, channel: str, *numbers: int) -> list[Frame]:
    return [
        await city.done("post_office.publish_to_agent_channel", {"channel": channel, "message": {"n": n}})
        for n in numbers
    ]


async def listed(client: Client) -> set[str]:
    """The addresses of all resources, over all pages."""
    found: set[str] = set()
    cursor: str | None = None
    while True:
        page = await client.list_resources(cursor=cursor)
        found |= {str(resource.uri) for resource in page.resources}
        cursor = page.next_cursor
        if not cursor:
            return found


async def failed(awaited: Awaitable[Any]) -> MCPError:
    """What the server says no with; a defect of ours is no such thing."""
    with pytest.raises(MCPError) as raised:
        await awaited
    assert raised.value.code != types.INTERNAL_ERROR, raised.value
    return raised.value


@in_town
@ERAS
class TestReading:
    async def test_the_channels_are_resources(self, town: Instance, channel: str, era: str) -> None:
        async with opened(town, era=era) as client:
            assert client.server_capabilities.resources is not None
            found = await listed(client)
            assert {"channel://guide", address("pillar:content"), address(channel)} <= found
            for described in (await client.list_resources()).resources:
                assert described.name
                assert described.mime_type == "application/json"

    async def test_reading_one_gives_its_history(self, town: Instance, channel: str, era: str) -> None:
        said = await say(town, channel, 1, 2, 3)
        async with opened(town, era=era) as client:
            value = await resources.read(client, f"channel://{channel}")
            assert value == await resources.read(client, address(channel)), "written either way"
            assert [entry["payload"] for entry in value["publications"]] == [{"n": 1}, {"n": 2}, {"n": 3}]
            assert [entry["message_id"] for entry in value["publications"]] == [told["message_id"] for told in said]
            assert text_of(value) == text_of(said[-1])

    async def test_a_template_reads_from_a_position(self, town: Instance, channel: str, era: str) -> None:
        said = await say(town, channel, 1, 2, 3)
        async with opened(town, era=era) as client:
            value = await resources.read_since(client, channel, text_of(said[0]))
            assert value["recovered"] is True
            assert [entry["payload"]["n"] for entry in value["publications"]] == [2, 3]
            bad = await resources.read_since(client, channel, "1.nobody")
            assert (bad["recovered"], bad["reason"], bad["publications"]) == (False, "unknown_epoch", [])

    async def test_one_sees_and_reads_what_one_may(self, town: Instance, channel: str, era: str) -> None:
        token = await town.session(unique("alice"), channels={channel: ["history"], "guide": ["subscribe", "send"]})
        async with opened(town, token, era) as client:
            found = await listed(client)
            assert address(channel) in found
            assert not {uri for uri in found if "pillar" in uri} - {address(channel)}
            assert "channel://guide" not in found
            await resources.read(client, address(channel))
            await failed(client.read_resource("channel://guide"))
            await failed(client.read_resource("channel://pillar:content"))

    async def test_logs_of_others_are_never_given(self, town: Instance, era: str) -> None:
        alice, bob = unique("alice"), unique("bob")
        await town.done("post_office.send_to_user", {"user_id": bob, "message": {"secret": "of bob"}})
        await town.done("post_office.send_to_user", {"user_id": alice, "message": {"n": 1}})
        async with opened(town, await town.session(alice), era) as client:
            assert address(f"user:{alice}") in await listed(client)
            assert not [uri for uri in await listed(client) if bob in uri]
            error = await failed(client.read_resource(f"channel://user:{bob}"))
            assert "secret" not in str(error)
            own = await resources.read(client, f"channel://user:{alice}")
            assert [entry["payload"] for entry in own["publications"]] == [{"n": 1}]

    async def test_a_token_without_the_scope_reads_nothing(self, town: Instance, channel: str, era: str) -> None:
        async with opened(town, await town.service(unique("reports"), "post_office.publish"), era) as client:
            assert await listed(client) == set()
            await failed(client.read_resource(f"channel://{channel}"))

    @pytest.mark.parametrize("uri", ODD_ADDRESSES, ids=lambda uri: repr(uri[:40]))
    async def test_an_odd_address_is_refused_in_good_order(self, town: Instance, era: str, uri: str) -> None:
        async with opened(town, era=era) as client:
            try:
                answer = await client.read_resource(uri)
            except MCPError as error:
                assert error.code != types.INTERNAL_ERROR, error
            else:
                assert "passwd" not in uri
                assert all("publications" in str(content) for content in answer.contents)
            assert "channel://guide" in await listed(client), "the connection goes on"


@asynccontextmanager
async def told_of(city: Instance, *channels: str, token: str = OPERATOR_TOKEN) -> AsyncIterator[Subscription]:
    """A stream of changes, in the sessionless era."""
    wanted = [f"channel://{name}" for name in channels]
    async with opened(city, token) as client, client.listen(resource_subscriptions=wanted) as heard:
        yield heard


async def entered(client: Client, *uris: str) -> None:
    async with client.listen(resource_subscriptions=uris):
        pass


async def change(heard: Subscription, seconds: float = 5.0) -> str:
    """The address in the next change."""
    async with asyncio.timeout(seconds):
        event = await anext(heard)
    return str(getattr(event, "uri", event))


class TestChanges:
    async def test_a_listener_on_any_instance_is_told(self, platform: Platform) -> None:
        east, west = await platform.start(), await platform.start()
        async with told_of(east, "guide") as one, told_of(west, "guide") as two:
            for city in (east, west):
                await say(city, "guide", 1)
                assert await change(one) == "channel://guide"
                assert await change(two) == "channel://guide"

    async def test_a_change_can_be_read_at_once(self, platform: Platform) -> None:
        east, west = await platform.start(), await platform.start()
        async with opened(west) as client, client.listen(resource_subscriptions=["channel://guide"]) as heard:
            since = "0"
            seen: list[int] = []
            talking = asyncio.create_task(say(east, "guide", *range(30)))
            async with asyncio.timeout(PATIENCE):
                while len(seen) < 30:
                    assert await change(heard) == "channel://guide"
                    page = await resources.read_since(client, "guide", since)
                    seen += [entry["payload"]["n"] for entry in page["publications"]]
                    since = text_of(page)
            await talking
            assert seen == list(range(30))

    async def test_others_are_not_told(self, city: Instance) -> None:
        async with told_of(city, "guide") as heard:
            await say(city, "pillar:content", 1)
            await say(city, "guide", 1)
            assert await change(heard) == "channel://guide"

    @pytest.mark.parametrize(
        "uri", ["channel://pillar:content", "channel://pillar%3Acontent", "channel://pillar%3acontent"]
    )
    async def test_it_is_told_under_the_address_that_was_asked_for(self, city: Instance, uri: str) -> None:
        async with opened(city) as client, client.listen(resource_subscriptions=[uri]) as heard:
            await say(city, "pillar:content", 1)
            assert await change(heard) == uri

    @pytest.mark.parametrize(
        "other", ["channel://pillar:content", "channel://user:alice", "channel://connection:x", "x"]
    )
    async def test_who_may_not_read_is_not_told(self, city: Instance, other: str) -> None:
        token = await city.session(unique("bob"), channels={"guide": ["history", "subscribe"]})
        async with opened(city, token) as client:
            refused = await failed(entered(client, "channel://guide", other))
            assert "code" not in (refused.data or {}) or refused.data["code"] in {
                "forbidden", "invalid_argument", "unknown_channel", "not_found"
            }  # fmt: skip
            await say(city, "guide", 1)
            await resources.read(client, "channel://guide")

    async def test_a_flood_ends_with_a_change_that_shows_the_last(self, city: Instance) -> None:
        async with opened(city) as client, client.listen(resource_subscriptions=["channel://guide"]) as heard:
            for start in range(0, 1000, 100):
                items = [{"channel": "guide", "message": {"n": n}} for n in range(start, start + 100)]
                last = (await city.done("post_office.publish_batch", {"items": items}))["results"][-1]
            async with asyncio.timeout(PATIENCE):
                while True:
                    await change(heard)
                    page = await resources.read(client, "channel://guide")
                    if page["offset"] == last["offset"]:
                        break

    async def test_a_drain_ends_the_stream_in_good_order_and_does_not_wait_for_it(self, platform: Platform) -> None:
        other = await platform.start()
        async with platform.instance() as city:
            task = asyncio.create_task(until_over(city))
            await until_heard(task, city)
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < 3 + ROOM
        async with asyncio.timeout(PATIENCE):
            assert await task == "ended", "a stream that is cut is one that was lost"
        assert (await other.http.get("/health/ready")).status_code == 200

    async def test_a_revoked_token_is_told_no_more(self, city: Instance) -> None:
        made = await city.done("traffic_cop.create_service_token", {"realm": unique("r"), "scopes": list(AGENT)})
        async with opened(city, made["token"]) as client:
            try:
                async with client.listen(resource_subscriptions=["channel://guide"]) as heard:
                    await say(city, "guide", 1)
                    assert await change(heard) == "channel://guide"
                    await city.done("traffic_cop.revoke_service_token", {"token_id": made["token_id"]})

                    async def over() -> str:
                        async for event in heard:
                            return str(event)
                        return "ended"

                    ending = asyncio.create_task(over())
                    done, _ = await asyncio.wait({ending}, timeout=2 + ROOM)
                    await say(city, "guide", 2)
                    async with asyncio.timeout(PATIENCE):
                        assert done, "it still listens two seconds after its token was revoked"
                        assert await ending == "ended"
            except MCPError as lost:
                assert lost.code != types.INTERNAL_ERROR
            except Exception as lost:
                assert type(lost).__name__ == "SubscriptionLost", lost


HEARD: asyncio.Queue[str] = asyncio.Queue()


async def until_over(city: Instance) -> str:
    """Listens until the stream ends; how."""
    try:
        async with told_of(city, "guide") as heard:
            async for event in heard:
                HEARD.put_nowait(str(event))
        return "ended"
    except Exception as lost:
        return type(lost).__name__


async def until_heard(task: asyncio.Task[str], city: Instance) -> None:
    """Publishes until the listener has heard something."""
    async with asyncio.timeout(PATIENCE):
        while HEARD.empty():
            assert not task.done(), task.result()
            await say(city, "guide", 1)
            await asyncio.sleep(0.02)  # between two looks at a condition with a deadline
    while not HEARD.empty():
        HEARD.get_nowait()


async def test_the_handshake_era_is_told_too(platform: Platform) -> None:
    east, west = await platform.start(), await platform.start()
    told: asyncio.Queue[str] = asyncio.Queue()

    async def hear(message: Any) -> None:
        inner = getattr(message, "root", message)
        if isinstance(inner, types.ResourceUpdatedNotification):
            told.put_nowait(str(inner.params.uri))

    async with (
        plain_client(west.url, Authorization=f"Bearer {OPERATOR_TOKEN}") as http,
        Client(
            streamable_http_client(f"{west.url}/mcp", http_client=http), mode="legacy", message_handler=hear
        ) as client,
    ):
        capability = client.server_capabilities.resources
        assert capability is not None and capability.subscribe is True
        await client.session.send_request(
            types.SubscribeRequest(params=types.SubscribeRequestParams(uri="channel://guide")), types.EmptyResult
        )
        async with asyncio.timeout(PATIENCE):
            while told.empty():
                await say(east, "guide", 1)
                await asyncio.sleep(0.05)  # between two looks at a condition with a deadline
        assert await told.get() == "channel://guide"


@in_town
@ERAS
class TestPrompts:
    async def test_they_teach_with_words_that_exist(self, town: Instance, era: str) -> None:
        async with opened(town, await town.service(unique("thinker"), *AGENT), era) as client:
            prompts = (await client.list_prompts()).prompts
            assert prompts
            tools = {tool.name for tool in (await client.list_tools()).tools}
            said = ""
            for prompt in prompts:
                assert prompt.description
                arguments = {argument.name: "pillar:content" for argument in prompt.arguments or ()}
                answer = await client.get_prompt(prompt.name, arguments)
                assert answer.messages
                said += json.dumps([message.model_dump(mode="json") for message in answer.messages])
            assert "post_office_receive_messages" in said
            assert "post_office_reply" in said
            named = {word.strip("`.,;:()\"'\\") for word in said.replace("`", " ").replace("\\n", " ").split()}
            unknown = {word for word in named if word.startswith(("post_office_", "traffic_cop_"))} - tools
            assert not unknown, unknown

    async def test_a_prompt_that_does_not_exist_is_refused(self, town: Instance, era: str) -> None:
        async with opened(town, era=era) as client:
            await failed(client.get_prompt("fly", {}))
            await client.list_tools()

    async def test_a_required_argument_is_missed(self, town: Instance, era: str) -> None:
        async with opened(town, era=era) as client:
            for prompt in (await client.list_prompts()).prompts:
                if any(argument.required for argument in prompt.arguments or ()):
                    await failed(client.get_prompt(prompt.name, {}))
