"""Histories, events and resources while the store is away or the instance leaves, with readers that do not read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.contract.agents import asked, asker_of, is_answer
from tests.contract.packed import packed
from tests.contract.shapes import problem, text_of
from tests.contract.streams import following, is_published, streaming
from tests.contract.tools import opened
from tests.contract.watching import eventually
from tests.support.platform import OPERATOR_TOKEN, Instance, Platform, unique
from tests.support.valkey import ValkeyServer
from tests.support.waiting import PATIENCE, ROOM

in_town = pytest.mark.asyncio(loop_scope="module")
Frame = dict[str, Any]


@pytest.fixture
def own_server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


async def say(city: Instance, *numbers: int, **more: Any) -> list[Frame]:
    return [
        await city.done("post_office.publish_to_agent_channel", {"channel": "guide", "message": {"n": n, **more}})
        for n in numbers
    ]


async def test_streams_stay_while_the_store_is_away_and_miss_nothing(own_server: ValkeyServer) -> None:
    async with AsyncExitStack() as stack:
        city = await Platform(own_server, stack).start()
        token = await city.session(unique("alice"))
        streams = [await stack.enter_async_context(following(city, "guide", token)) for _ in range(5)]
        await say(city, 1)
        for stream in streams:
            assert is_published(await stream.next(), "guide")["payload"]["n"] == 1
        unseen = await city.session(unique("bob"))
        own_server.hang()

        async def refused() -> str:
            answer = await city.http.get("/api/channels/guide/history", headers={"Authorization": f"Bearer {token}"})
            return str(answer.json().get("code", answer.status_code))

        assert await eventually(refused, lambda code: code != "200", "it is away") == "unavailable"
        began = time.monotonic()
        for late in (token, unseen):  # nobody can say that the token is not good; an EventSource must not give up
            async with streaming(city, "guide", late) as stream:
                assert stream.status == 200
                assert all(part in stream.body for part in (b"retry:", b"event: close", b"1013")), stream.body
        assert time.monotonic() - began < 10 + ROOM
        own_server.resume()

        async def again() -> int:
            arguments = {"channel": "guide", "message": {"n": 2}, "key": "2"}
            return (await city.call("post_office.publish_to_agent_channel", arguments)).status_code

        await eventually(again, lambda status: status == 200, "it is back", 15)
        for stream in streams:
            event = await stream.next()
            assert is_published(event, "guide")["payload"]["n"] == 2


async def test_a_refusal_of_the_store_says_when_to_come_back(own_server: ValkeyServer) -> None:
    async with AsyncExitStack() as stack:
        city = await Platform(own_server, stack).start()
        async with opened(city) as client:
            await client.read_resource("channel://guide")
            own_server.hang()
            with pytest.raises(Exception, match=r"(?i)unavailable|valkey|store|reach") as raised:
                async with asyncio.timeout(PATIENCE):
                    await client.read_resource("channel://guide")
            assert not isinstance(raised.value, TimeoutError)
            answer = await city.http.get("/api/channels/guide/history", headers=city.operator)
            assert problem(answer, 503, "unavailable")["retryable"] is True
            own_server.resume()


async def test_readers_that_do_not_read_do_not_hold_up_a_drain(platform: Platform) -> None:
    other = await platform.start()
    async with AsyncExitStack() as stack:
        async with platform.instance() as city:
            deaf = [await stack.enter_async_context(following(city, "guide", OPERATOR_TOKEN)) for _ in range(10)]
            for stream in deaf:
                stream.raw.stop_reading()
            await say(other, *range(30), text="x" * 100_000)
            assert (await city.http.get("/health/ready")).status_code == 200
            began = time.monotonic()
        took = time.monotonic() - began
    assert took < 8 + ROOM, f"{took:.1f} s"


async def test_hundreds_of_streams_are_all_told_of_a_drain(platform: Platform) -> None:
    async with AsyncExitStack() as stack:
        async with platform.instance() as city:
            tokens = [await city.session(unique("reader")) for _ in range(15)]
            streams = [
                await stack.enter_async_context(following(city, "guide", tokens[number % 15])) for number in range(200)
            ]
            ending = [asyncio.create_task(stream.rest(15)) for stream in streams]
        for stream, left in zip(streams, await asyncio.gather(*ending), strict=True):
            assert [event.value["code"] for event in left if event.name == "close"] == [1012]
            assert stream.is_whole


async def test_the_positions_of_a_life_of_the_store_are_good_in_the_next(own_server: ValkeyServer) -> None:
    async with AsyncExitStack() as stack:
        city = await Platform(own_server, stack).start()
        said = await say(city, *range(5))
        own_server.restart()

        async def again() -> int:
            arguments = {"channel": "guide", "message": {"n": 5}, "key": "5"}
            return (await city.call("post_office.publish_to_agent_channel", arguments)).status_code

        await eventually(again, lambda status: status == 200, "it is back", 15)
        since = text_of(said[1])
        page = await city.http.get("/api/channels/guide/history", params={"since": since}, headers=city.operator)
        assert page.json()["recovered"] is True
        assert [entry["payload"]["n"] for entry in page.json()["publications"]] == [2, 3, 4, 5]
        async with following(city, "guide", OPERATOR_TOKEN, since) as stream:
            assert stream.ack["recovered"] is True
            assert [is_published(event, "guide")["payload"]["n"] for event in await stream.many(4)] == [2, 3, 4, 5]


@in_town
@pytest.mark.parametrize(
    "payload",
    [
        {"message": b"bytes"},
        {"message": 7},
        {"message": None},
        {},
        {"message": ["x"]},
        {"message": "x", "more": b"\x00"},
    ],
    ids=str,
)
async def test_a_delta_that_is_no_text_is_refused_or_whole(town: Instance, channel: str, payload: Frame) -> None:
    token = await town.service(unique("agent"), "post_office.consume")
    async with packed(town, token) as agent, asker_of(town) as alice:
        await agent.ask(type="consume", channel=channel)
        question = await asked(alice, channel)
        name = {"type": "reply", "delivery_id": (await agent.of("delivery"))["delivery_id"]}
        await agent.ask(**name, stream="start", payload={})
        odd = await agent.ask(**name, stream="delta", payload=payload)
        assert odd.get("code", "invalid_message") == "invalid_message", odd
        await agent.ask(**name, stream="delta", payload={"message": "good"})
        await agent.ask(**name, stream="end", payload={"picture": b"\x01"})
        while True:
            part = await alice.of("chat_response")
            is_answer(part, parts=True)
            assert part["in_reply_to"] == question
            if part["stream"] == "end":
                break
        assert part["payload"]["picture"] == {"$bytes": "AQ=="}
        assert part["payload"]["message"].endswith("good")
