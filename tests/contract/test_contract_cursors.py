"""One cursor: a position that any surface has told is good on every other, for the same publications."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.contract import resources
from tests.contract.commands import line, running
from tests.contract.shapes import text_of
from tests.contract.streams import following, is_published
from tests.contract.tools import opened, tool
from tests.support.platform import OPERATOR_TOKEN, Instance, Platform, unique

in_town = pytest.mark.asyncio(loop_scope="module")
Frame = dict[str, Any]
Teller = Callable[[Instance, str], Awaitable[str]]
Taker = Callable[[Instance, str, str, int], Awaitable[list[int]]]


async def say(city: Instance, channel: str, *numbers: int) -> list[Frame]:
    return [
        await city.done("post_office.publish_to_agent_channel", {"channel": channel, "message": {"n": n}})
        for n in numbers
    ]


async def told_by_publishing(city: Instance, channel: str) -> str:
    return text_of((await say(city, channel, 0))[0])


async def told_by_a_subscribe(city: Instance, channel: str) -> str:
    await say(city, channel, 0)
    async with city.connected(OPERATOR_TOKEN) as client:
        return text_of((await client.subscribe(channel))[channel])


async def told_by_a_message(city: Instance, channel: str) -> str:
    async with city.connected(OPERATOR_TOKEN) as client:
        await client.subscribe(channel)
        await say(city, channel, 0)
        return text_of((await client.messages(1, channel))[0])


async def told_by_a_socket_s_ack(city: Instance, channel: str) -> str:
    async with city.connected(OPERATOR_TOKEN) as client:
        return text_of(await client.ask(type="publish", channel=channel, payload={"n": 0}))


async def told_by_an_event(city: Instance, channel: str) -> str:
    async with following(city, channel, OPERATOR_TOKEN) as stream:
        await say(city, channel, 0)
        return (await stream.next()).id


async def told_by_a_page(city: Instance, channel: str) -> str:
    await say(city, channel, 0)
    return text_of((await city.http.get(f"/api/channels/{channel}/history", headers=city.operator)).json())


async def told_by_a_tool(city: Instance, channel: str) -> str:
    await say(city, channel, 0)
    async with opened(city) as client:
        return text_of(await tool(client, "post_office_get_channel_history", channel=channel))


async def told_by_a_resource(city: Instance, channel: str) -> str:
    await say(city, channel, 0)
    async with opened(city) as client:
        return text_of(await resources.read(client, f"channel://{channel}"))


async def told_by_the_command(city: Instance, channel: str) -> str:
    async with running("listen", channel, "--since", "0", url=city.url, token=OPERATOR_TOKEN) as listening:
        await say(city, channel, 0)
        return text_of(await line(listening))


async def told_by_an_empty_channel(city: Instance, channel: str) -> str:
    async with city.connected(OPERATOR_TOKEN) as client:
        return text_of((await client.subscribe(channel))[channel])


async def taken_by_a_socket(city: Instance, channel: str, since: str, count: int) -> list[int]:
    offset, _, epoch = since.partition(".")
    async with city.connected(OPERATOR_TOKEN) as client:
        outcome = (await client.subscribe(channel, offset=int(offset), epoch=epoch))[channel]
        assert outcome["recovered"] is True, outcome
        assert outcome["missed"] == count
        return [message["payload"]["n"] for message in await client.messages(count, channel)]


async def taken_by_events(city: Instance, channel: str, since: str, count: int) -> list[int]:
    async with following(city, channel, OPERATOR_TOKEN, since) as stream:
        return [is_published(event, channel)["payload"]["n"] for event in await stream.many(count)]


async def taken_by_a_page(city: Instance, channel: str, since: str, count: int) -> list[int]:
    path = f"/api/channels/{channel}/history"
    page = (await city.http.get(path, params={"since": since}, headers=city.operator)).json()
    assert page["recovered"] is True, page
    return [entry["payload"]["n"] for entry in page["publications"]]


async def taken_by_a_tool(city: Instance, channel: str, since: str, count: int) -> list[int]:
    async with opened(city) as client:
        page = await tool(client, "post_office_get_channel_history", channel=channel, since=since)
        return [entry["payload"]["n"] for entry in page["publications"]]


async def taken_by_a_resource(city: Instance, channel: str, since: str, count: int) -> list[int]:
    async with opened(city) as client:
        page = await resources.read_since(client, channel, since)
        return [entry["payload"]["n"] for entry in page["publications"]]


async def taken_by_a_consumer(city: Instance, channel: str, since: str, count: int) -> list[int]:
    arguments = {"channel": channel, "realm": "operator", "mode": "log", "since": since}
    consumer = (await city.done("post_office.subscribe_to_channel", arguments))["consumer"]
    asked = {"consumer": consumer, "max": 50, "wait_ms": 2000}
    got = await city.done("post_office.receive_messages", asked)
    return [entry["payload"]["n"] for entry in got["publications"]]


async def taken_by_the_command(city: Instance, channel: str, since: str, count: int) -> list[int]:
    async with running("listen", channel, "--since", since, url=city.url, token=OPERATOR_TOKEN) as listening:
        return [(await line(listening))["payload"]["n"] for _ in range(count)]


TELLERS: dict[str, Teller] = {
    "publishing": told_by_publishing, "a subscribe": told_by_a_subscribe, "a message": told_by_a_message,
    "a socket's ack": told_by_a_socket_s_ack, "an event": told_by_an_event, "a page": told_by_a_page,
    "a tool": told_by_a_tool, "a resource": told_by_a_resource, "the command": told_by_the_command,
}  # fmt: skip
TAKERS: dict[str, Taker] = {
    "a socket": taken_by_a_socket, "events": taken_by_events, "a page": taken_by_a_page, "a tool": taken_by_a_tool,
    "a resource": taken_by_a_resource, "a consumer": taken_by_a_consumer, "the command": taken_by_the_command,
}  # fmt: skip


async def good_everywhere(
    city: Instance, channel: str, since: str, expected: list[int], but: frozenset[str] = frozenset()
) -> None:
    async def take(name: str) -> list[int]:
        async with asyncio.timeout(30):
            return await TAKERS[name](city, channel, since, len(expected))

    async with asyncio.TaskGroup() as group:
        taken = {name: group.create_task(take(name)) for name in TAKERS.keys() - but}
    assert {name: task.result() for name, task in taken.items()} == dict.fromkeys(taken, expected)


@in_town
@pytest.mark.parametrize("teller", TELLERS)
async def test_a_position_of_one_surface_is_good_on_every_other(town: Instance, channel: str, teller: str) -> None:
    since = await TELLERS[teller](town, channel)
    await say(town, channel, 1, 2, 3)
    but = frozenset() if teller == "an event" else frozenset({"the command"})  # which takes a process each time
    await good_everywhere(town, channel, since, [1, 2, 3], but)


@in_town
async def test_the_position_of_an_empty_channel_is_good_everywhere(town: Instance, channel: str) -> None:
    """It may have no epoch yet; what a client was told must be taken back."""
    since = await told_by_an_empty_channel(town, channel)
    await say(town, channel, 1, 2)
    await good_everywhere(town, channel, since, [1, 2])


@in_town
@pytest.mark.parametrize(("bad", "reason"), [("3.nobody", "unknown_epoch"), ("900", "future")])
async def test_a_position_that_is_not_good_has_one_reason_everywhere(
    town: Instance, channel: str, bad: str, reason: str
) -> None:
    newest = text_of((await say(town, channel, 0, 1))[-1])
    offset, _, epoch = bad.partition(".")
    since: Frame = {"offset": int(offset)} | ({"epoch": epoch} if epoch else {})
    found: dict[str, tuple[Any, str]] = {}
    async with town.connected(OPERATOR_TOKEN) as client:
        outcome = (await client.subscribe(channel, **since))[channel]
        found["a socket"] = outcome["reason"], text_of(outcome)
    async with following(town, channel, OPERATOR_TOKEN, bad) as stream:
        found["events"] = stream.ack["reason"], stream.last_id
    page = (
        await town.http.get(f"/api/channels/{channel}/history", params={"since": bad}, headers=town.operator)
    ).json()
    found["a page"] = page["reason"], text_of(page)
    async with opened(town) as mcp:
        by_tool = await tool(mcp, "post_office_get_channel_history", channel=channel, since=bad)
        found["a tool"] = by_tool["reason"], text_of(by_tool)
        resource = await resources.read_since(mcp, channel, bad)
        found["a resource"] = resource["reason"], text_of(resource)
    assert found == dict.fromkeys(found, (reason, newest))


async def test_a_position_is_good_on_another_instance(platform: Platform) -> None:
    east, west = await platform.start(), await platform.start()
    since = await told_by_an_event(east, "guide")
    await say(east, "guide", 1)
    await say(west, "guide", 2)
    for take in (taken_by_events, taken_by_a_page, taken_by_a_socket, taken_by_a_resource):
        assert await take(west, "guide", since, 2) == [1, 2]


async def test_a_reader_that_changes_surface_at_every_step_misses_nothing(platform: Platform) -> None:
    east, west = await platform.start(), await platform.start()
    token = await east.session(unique("alice"))
    since = await told_by_an_empty_channel(east, "guide")
    heard: list[int] = []
    talking = asyncio.create_task(say(west, "guide", *range(120)))
    async with asyncio.timeout(30):
        for step in range(10_000):
            city = (east, west)[step % 2]
            if step % 3 == 0:
                async with following(city, "guide", token, since) as stream:
                    heard.append(is_published(await stream.next(), "guide")["payload"]["n"])
                    since = stream.last_id
            elif step % 3 == 1:
                offset, _, epoch = since.partition(".")
                async with city.connected(token) as alice:
                    ack = (await alice.subscribe("guide", offset=int(offset), epoch=epoch))["guide"]
                    messages = await alice.messages(max(1, ack["missed"]), "guide")
                heard += [message["payload"]["n"] for message in messages]
                since = text_of(messages[-1])
            else:
                path = "/api/channels/guide/history"
                bearer = {"Authorization": f"Bearer {token}"}
                page = (await city.http.get(path, params={"since": since, "limit": 5}, headers=bearer)).json()
                heard += [entry["payload"]["n"] for entry in page["publications"]]
                since = text_of(page["publications"][-1]) if page["publications"] else since
            if heard and heard[-1] == 119:
                break
    await talking
    assert heard == list(range(120))
