"""How an instance ends: everybody leaves in waves, an agent at work as late as may be, and nobody new comes in."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from smart_city.post_office.gateway.draining import WAVE_SECONDS, Drain, in_waves
from tests.support.platform import Platform, unique
from tests.support.waiting import PATIENCE, until
from tests.support.wire_client import WireClient


async def test_many_leave_evenly_over_the_whole_time() -> None:
    clock = asyncio.get_running_loop().time
    began = clock()
    left = [clock() - began async for _ in in_waves(range(1000), 0.5)]
    assert len(left) == 1000
    assert left[-1] > 0.25
    assert len({round(moment / WAVE_SECONDS) for moment in left}) > 3, "not in one burst"


async def test_a_few_do_not_need_all_of_the_time() -> None:
    clock = asyncio.get_running_loop().time
    began = clock()
    assert [one async for one in in_waves("abc", 60)] == ["a", "b", "c"]
    assert clock() - began < 10


async def test_nobody_needs_no_time() -> None:
    assert [one async for one in in_waves(list[str](), 60)] == []


async def test_the_busy_leave_when_they_are_idle_or_at_the_end() -> None:
    busy = {"a", "b"}
    left: list[str] = []
    async for one in in_waves("abcd", 1, lambda one: one in busy):
        left.append(one)
        if len(left) == 2:
            busy.discard("b")
    assert left == ["c", "d", "b", "a"]


async def test_calls_that_wait_each_end_at_a_moment_of_their_own() -> None:
    drain = Drain(0.5)
    clock = asyncio.get_running_loop().time
    ended: list[float] = []

    async def wait() -> None:
        await drain.turn()
        ended.append(clock())

    calls = [asyncio.create_task(wait()) for _ in range(100)]
    await asyncio.sleep(0)
    assert not drain.has_begun
    drain.begin()
    await asyncio.gather(*calls)
    assert max(ended) - min(ended) > 0.1
    await asyncio.wait_for(drain.turn(), PATIENCE)


async def test_sockets_are_closed_in_waves_with_1012(platform: Platform) -> None:
    async with AsyncExitStack() as stack:
        city = await stack.enter_async_context(platform.instance(drain_seconds=1))
        token = await city.session(unique("alice"))
        clients = [await stack.enter_async_context(city.connected(token)) for _ in range(15)]
        closed: list[float] = []

        async def wait(client: WireClient) -> int:
            code = await client.close_code()
            closed.append(time.monotonic())
            return code

        codes = asyncio.gather(*(wait(client) for client in clients))
        began = time.monotonic()
        await city.app.state.gateway.drain()
        assert set(await codes) == {1012}
        assert max(closed) - min(closed) > 0.2
        assert not city.app.state.gateway.connections
        assert time.monotonic() - began < 20


async def test_an_agent_at_work_may_finish_and_is_given_nothing_more(platform: Platform) -> None:
    async with AsyncExitStack() as stack:
        city = await stack.enter_async_context(platform.instance(drain_seconds=20))
        agent_token = await city.service(unique("agents"), "post_office.consume")
        agent = await stack.enter_async_context(city.connected(agent_token))
        alice = await stack.enter_async_context(city.connected(await city.session(unique("alice"))))
        await agent.ask(type="consume", channel="guide", max=8)
        await alice.ask(channel="guide", payload={"conversation_id": "a"})
        delivery = await agent.of("delivery")
        draining = asyncio.create_task(city.app.state.gateway.drain())
        assert await alice.close_code() == 1012
        assert not draining.done()
        answered = await agent.ask(type="reply", delivery_id=delivery["delivery_id"], payload={"message": "done"})
        assert answered["type"] == "ack"
        assert await agent.close_code() == 1012
        await draining


async def test_who_comes_while_the_instance_drains_is_sent_elsewhere_at_once(platform: Platform) -> None:
    city = await platform.start(drain_seconds=1)
    token = await city.session(unique("alice"))
    await city.app.state.gateway.drain()
    with pytest.raises(Exception, match="1012"):
        async with city.connected(token):
            pass


async def test_one_that_is_leaving_still_serves_and_tells_balancers(platform: Platform) -> None:
    city = await platform.start()
    city.app.state.gateway.announce_drain()
    assert (await city.http.get("/health/ready")).status_code == 503
    async with city.connected(await city.session(unique("alice"))) as alice:
        assert (await alice.ask(channel="guide", payload={}))["status"] == "queued"
    await until(lambda: not city.app.state.gateway.connections, "it has left")
