"""Calls that wait: they tell how long, and end in the service as soon as their caller has left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import Client

from tests.contract.tools import opened, tool
from tests.support.parity import MODES
from tests.support.platform import Instance
from tests.support.waiting import eventually

both_eras = pytest.mark.parametrize("era", MODES)
CHANNEL = "pillar:content"


async def consumers(city: Instance) -> int:
    """How many wait for questions of the channel."""
    status = await city.done("post_office.get_queue_status", {"channel": CHANNEL})
    return int(status["channels"][CHANNEL]["consumers"])


async def some_wait(city: Instance, count: int) -> None:
    async def are() -> bool:
        return await consumers(city) == count

    await eventually(are, f"{count} wait")


@asynccontextmanager
async def while_waiting(call: Coroutine[Any, Any, Any]) -> AsyncIterator[asyncio.Task[Any]]:
    """A call under way, that has ended when this is left."""
    task = asyncio.create_task(call)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def consumer_of(client: Client, mode: str = "inbox") -> str:
    made = await tool(client, "post_office_subscribe_to_channel", channel=CHANNEL, mode=mode)
    return str(made["consumer"])


def receiving(client: Client, consumer: str, wait_ms: int, **options: Any) -> Coroutine[Any, Any, Any]:
    wanted = {"consumer": consumer, "wait_ms": wait_ms, "lease_seconds": 600}
    return client.call_tool("post_office_receive_messages", wanted, **options)


@both_eras
@pytest.mark.parametrize("mode", ["inbox", "log"])
async def test_a_call_that_waits_tells_whoever_wants_to_know(city: Instance, era: str, mode: str) -> None:
    told: list[tuple[float, str | None]] = []

    async def hear(progress: float, _total: float | None, message: str | None) -> None:
        told.append((progress, message))

    async with opened(city, era=era) as client:
        answer = await receiving(client, await consumer_of(client, mode), 2500, progress_callback=hear)
    assert answer.structured_content["success"] is True
    assert told
    assert [progress for progress, _ in told] == sorted(progress for progress, _ in told)
    assert told[0][0] >= 1
    assert "waiting" in (told[0][1] or "")


@both_eras
async def test_a_call_that_is_cancelled_waits_no_more_and_takes_nothing(city: Instance, era: str) -> None:
    async with opened(city, era=era) as client:
        consumer = await consumer_of(client)
        async with while_waiting(receiving(client, consumer, 30_000)):
            await some_wait(city, 1)
        await some_wait(city, 0)
        async with city.connected(await city.session("alice")) as alice:
            await alice.ask(channel=CHANNEL, payload={"message": "Who is there?"})
            taken = await tool(client, "post_office_receive_messages", consumer=consumer, wait_ms=5000)
            assert [delivery["attempt"] for delivery in taken["deliveries"]] == [1]


@both_eras
async def test_cancelling_one_call_leaves_the_others(city: Instance, era: str) -> None:
    async with opened(city, era=era) as client:
        consumer = await consumer_of(client)
        async with while_waiting(receiving(client, consumer, 30_000)) as stays:
            await some_wait(city, 1)
            async with while_waiting(receiving(client, consumer, 30_000)):
                await some_wait(city, 2)
            await some_wait(city, 1)
            assert not stays.done()
