"""Waiting calls, over MCP and HTTP: progress while they wait, and a cancelled one that loses no delivery."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.contract.agents import agent_on, asked, asker_of
from tests.contract.raw import dialled
from tests.contract.tools import opened, tool
from tests.support.parity import plain_client
from tests.support.platform import OPERATOR_TOKEN, Instance, Platform, unique
from tests.support.waiting import PATIENCE, ROOM
from tests.support.wire_client import WireClient

in_town = pytest.mark.asyncio(loop_scope="module")
ERAS = pytest.mark.parametrize("era", ["auto", "legacy"])
SEED = 20261120
Frame = dict[str, Any]
RECEIVE = "post_office_receive_messages"
Cancelled = Callable[[Instance, str, float], Coroutine[Any, Any, list[Frame]]]


async def consumer_on(city: Instance, channel: str, mode: str = "inbox") -> str:
    made = await city.done("post_office.subscribe_to_channel", {"channel": channel, "mode": mode})
    return str(made["consumer"])


@in_town
@ERAS
async def test_a_waiting_call_tells_that_it_still_waits(town: Instance, channel: str, era: str) -> None:
    told: list[float] = []

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        assert total is None or progress <= total
        told.append(progress)

    consumer = await consumer_on(town, channel)
    async with opened(town, era=era) as client:
        arguments = {"consumer": consumer, "max": 1, "wait_ms": 15000}
        waiting = asyncio.create_task(client.call_tool(RECEIVE, arguments, progress_callback=tell))
        async with asyncio.timeout(14):
            while not told:
                assert not waiting.done()
                await asyncio.sleep(0.02)  # between two looks at a condition with a deadline
        async with asker_of(town) as alice:
            question = await asked(alice, channel)
            answer = await waiting
        assert not answer.is_error
        (delivery,) = (answer.structured_content or {})["deliveries"]
        assert delivery["message"]["message_id"] == question
        assert told == sorted(told)
        assert len(set(told)) == len(told), "progress grows"
        await tool(
            client, "post_office_acknowledge_messages", consumer=consumer, delivery_ids=[delivery["delivery_id"]]
        )


@in_town
@ERAS
async def test_who_asks_for_no_progress_is_told_none(town: Instance, channel: str, era: str) -> None:
    consumer = await consumer_on(town, channel)
    async with opened(town, era=era) as client:
        got = await tool(client, RECEIVE, consumer=consumer, max=1, wait_ms=1200)
        assert got["deliveries"] == []


async def cancelled_mcp(era: str, city: Instance, consumer: str, seconds: float) -> list[Frame]:
    """A call that its client takes back after so long; what it brought, if it was sooner."""
    async with opened(city, era=era) as client:
        arguments = {"consumer": consumer, "max": 8, "wait_ms": 5000}
        call = asyncio.create_task(client.call_tool(RECEIVE, arguments))
        await asyncio.wait({call}, timeout=seconds)
        call.cancel()
        try:
            answer = await call
        except asyncio.CancelledError:
            return []
    assert not answer.is_error, answer
    deliveries: list[Frame] = (answer.structured_content or {})["deliveries"]
    return deliveries


async def cancelled_http(city: Instance, consumer: str, seconds: float) -> list[Frame]:
    async with plain_client(city.url, **city.operator) as http:
        arguments = {"consumer": consumer, "max": 8, "wait_ms": 5000}
        call = asyncio.create_task(http.post("/soa/post-office/receive_messages", json=arguments))
        await asyncio.wait({call}, timeout=seconds)
        call.cancel()
        try:
            answer = await call
        except asyncio.CancelledError:
            return []
    assert answer.status_code == 200, answer.text
    deliveries: list[Frame] = answer.json()["deliveries"]
    return deliveries


async def cut_http(city: Instance, consumer: str, seconds: float) -> list[Frame]:
    """As a client that dies does: its connection is reset in the middle."""
    body = f'{{"consumer": "{consumer}", "max": 8, "wait_ms": 5000}}'
    async with dialled(city.url) as raw:
        head = (
            "POST /soa/post-office/receive_messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {OPERATOR_TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        await raw.send((head + body).encode())
        await asyncio.sleep(seconds)  # how long it stays is what is tried
    return []


async def cancelled_mcp_now(city: Instance, consumer: str, seconds: float) -> list[Frame]:
    return await cancelled_mcp("auto", city, consumer, seconds)


async def cancelled_mcp_then(city: Instance, consumer: str, seconds: float) -> list[Frame]:
    return await cancelled_mcp("legacy", city, consumer, seconds)


WAYS: dict[str, Cancelled] = {
    "a tool": cancelled_mcp_now, "a tool of the handshake era": cancelled_mcp_then,
    "a request": cancelled_http, "a cut": cut_http,
}  # fmt: skip


async def settle(city: Instance, consumer: str, deliveries: list[Frame]) -> list[str]:
    """Acknowledges; the questions."""
    if deliveries:
        ids = [delivery["delivery_id"] for delivery in deliveries]
        await city.done("post_office.acknowledge_messages", {"consumer": consumer, "delivery_ids": ids})
    return [str(delivery["message"]["message_id"]) for delivery in deliveries]


async def ask_now_and_then(alice: WireClient, channel: str, count: int, chance: random.Random) -> list[str]:
    questions = []
    for number in range(count):
        questions.append(await asked(alice, channel, f"c-{number}"))
        await asyncio.sleep(chance.random() * 0.02)  # spreads them over the cancelled calls
    return questions


@pytest.mark.parametrize("way", WAYS)
async def test_what_a_cancelled_call_had_taken_comes_again_soon(platform: Platform, way: str) -> None:
    """Whenever it is cancelled: before or while something is taken at once, and after its lease where it was sent."""
    city = await platform.start(inbox_lease_seconds=2)
    chance = random.Random(SEED)  # noqa: S311
    consumer = await consumer_on(city, "guide")
    answered: list[str] = []
    async with asker_of(city) as alice:
        asking = asyncio.create_task(ask_now_and_then(alice, "guide", 40, chance))
        while not asking.done():
            answered += await settle(city, consumer, await WAYS[way](city, consumer, chance.random() * 0.04))
        questions = await asking
        async with asyncio.timeout(PATIENCE):
            while set(answered) < set(questions):
                arguments = {"consumer": consumer, "max": 50, "wait_ms": 500}
                got = (await city.done("post_office.receive_messages", arguments))["deliveries"]
                answered += await settle(city, consumer, got)
    assert sorted(answered) == sorted(questions), "each of them once"


@pytest.mark.parametrize("way", WAYS)
async def test_being_cancelled_is_not_a_failed_try(platform: Platform, way: str) -> None:
    """A caller that gives up is no reason to give a question up: after five tries it would be dead."""
    city = await platform.start()
    consumer = await consumer_on(city, "guide")
    async with asker_of(city) as alice:
        waiting = [asyncio.create_task(WAYS[way](city, consumer, 0.25)) for _ in range(8)]
        await asyncio.wait(waiting)
        question = await asked(alice, "guide")
        async with asyncio.timeout(PATIENCE):
            while True:
                arguments = {"consumer": consumer, "max": 1, "wait_ms": 1000}
                got = (await city.done("post_office.receive_messages", arguments))["deliveries"]
                if got:
                    break
        assert got[0]["message"]["message_id"] == question
        assert got[0]["attempt"] == 1, "nobody who was there has taken it"


async def test_a_cancelled_call_leaves_the_connection_good(city: Instance) -> None:
    consumer = await consumer_on(city, "guide")
    for era in ("auto", "legacy"):
        async with opened(city, era=era) as client:
            for _ in range(5):
                call = asyncio.create_task(
                    client.call_tool(RECEIVE, {"consumer": consumer, "max": 1, "wait_ms": 30000})
                )
                await asyncio.wait({call}, timeout=0.1)
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
                assert "channels" in await tool(client, "post_office_get_queue_status")
    async with agent_on(city, "guide") as other, asker_of(city) as alice:
        await asked(alice, "guide")
        assert (await other.of("delivery"))["attempt"] == 1, "the cancelled ones do not wait for it any more"


async def test_a_waiting_call_does_not_hold_up_a_drain(platform: Platform) -> None:
    waiting: list[asyncio.Task[Any]] = []
    async with platform.instance() as city:
        for name in ("guide", "pillar:content"):
            consumer = await consumer_on(city, name)
            arguments = {"consumer": consumer, "max": 1, "wait_ms": 30000}
            waiting.append(asyncio.create_task(city.call("post_office.receive_messages", arguments)))
        await asyncio.wait(waiting, timeout=0.3)
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 3 + ROOM
    for result in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(result, BaseException) or result.status_code in {200, 503}, result


async def test_the_name_of_a_waiting_consumer_is_no_ones_else(city: Instance) -> None:
    consumer = await consumer_on(city, "guide")
    other = await city.service(unique("other"), "post_office.consume")
    arguments = {"consumer": consumer, "max": 1, "wait_ms": 0}
    answer = await city.call("post_office.receive_messages", arguments, Authorization=f"Bearer {other}")
    assert answer.status_code in {403, 404}
