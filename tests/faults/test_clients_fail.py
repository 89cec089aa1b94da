"""Clients and their networks fail: what they missed is there when they are back."""

from __future__ import annotations

import asyncio

import pytest

from city_inspector.conditions import BLACKHOLE, GOOD, Conditions
from tests.faults.invariants import Allowed
from tests.faults.load import CONTENT, GUIDE
from tests.faults.talker import Talker
from tests.faults.trial import City, Trials
from tests.support.waiting import until

SLEEP_SECONDS = 7.0
"""Longer than two heartbeats, and than the resume window of a trial."""
LARGE = "x" * 100_000


@pytest.mark.quick
async def test_connections_that_are_reset(trials: Trials) -> None:
    async with trials("clients reset, five times each") as city:
        for _ in range(5):
            for line in city.load.lines.values():
                line.reset()
            await city.flows()


async def test_connections_cut_in_the_middle_of_a_frame(trials: Trials) -> None:
    async with trials("clients cut off in mid-frame") as city:
        for line in city.load.lines.values():
            for connection in line.connections:
                connection.impose(Conditions(cut_after=4321), towards="client")
        await asyncio.sleep(2)  # a fault lasts as long as it lasts
        for line in city.load.lines.values():
            line.impose(GOOD)
        await city.flows()


async def test_half_open_connections(trials: Trials) -> None:
    """Neither side hears of the other any more: both have to notice by themselves."""
    async with trials("half-open connections") as city:
        for line in city.load.lines.values():
            line.deafen()
        await city.flows()


async def test_clients_that_sleep(trials: Trials) -> None:
    async with trials("clients asleep for seven seconds") as city:
        sleepers = [
            city.load.lines[name] for name in ("reader", "packed-reader", "events", "listener", "page", "alice", "bob")
        ]
        for line in sleepers:
            line.impose(BLACKHOLE)
        await asyncio.sleep(SLEEP_SECONDS)
        for line in sleepers:
            line.impose(GOOD)
        await city.flows()


async def test_a_slow_reader_is_fed_from_the_log_and_holds_up_nobody(trials: Trials) -> None:
    async with trials("slow readers", settings={"MAX_UNSENT_BYTES": "262144"}, buffers=65536) as city:
        slow = [city.load.lines[name] for name in ("reader", "packed-reader", "events")]
        for line in slow:
            line.impose(Conditions(bytes_per_second=40_000), towards="client")
        for channel in (GUIDE, CONTENT):
            desk = city.load.publishers["desk"]
            assert isinstance(desk, Talker)
            await asyncio.gather(*(desk.say(channel, text=LARGE) for _ in range(25)))
        await asyncio.sleep(3)  # a fault lasts as long as it lasts
        for line in slow:
            line.impose(GOOD)
        await city.flows()


async def test_sessions_that_end_in_flight(trials: Trials) -> None:
    async with trials("sessions expire in flight") as city:
        short = [city.load.readers["reader"], *city.load.askers.values()]
        for talker in short:
            await expire(city, talker)
        await city.flows()


async def expire(city: City, talker: object) -> None:
    """Gives somebody a session of two seconds, who then has to ask for another."""
    assert isinstance(talker, Talker)

    async def renew() -> str:
        return await city.load.session(talker.name)

    talker.renew = renew
    talker.token = await city.load.session(talker.name, ttl_seconds=2)
    talker.proxy.reset()
    token = talker.token
    await until(lambda: talker.token != token, "the session has ended and another one has begun", 30)


async def test_history_trimmed_below_the_cursor(trials: Trials) -> None:
    async with trials(
        "history trimmed below the cursor", allowed=Allowed(trims=True), settings={"HISTORY_COUNT": "30"}
    ) as city:
        line = city.load.lines["reader"]
        line.impose(BLACKHOLE)
        await asyncio.sleep(SLEEP_SECONDS)
        line.impose(GOOD)
        await city.flows()


async def test_the_same_message_from_several_at_once(trials: Trials) -> None:
    """Two services of one realm on two instances, and both encodings: one publication each."""
    async with trials("the same publication sent by four at once") as city:
        token = await city.load.service("desk", "post_office.publish")
        others = [
            Talker(f"copy-{n}", token, await city.load.line(f"copy-{n}"), city.record, packed=bool(n % 2))
            for n in range(4)
        ]
        try:
            for number in range(50):
                key = f"same-{number}"
                told = await asyncio.gather(*(each.say(GUIDE, key=key, n=number) for each in others))
                assert len({each.message_id for each in told if each is not None}) == 1
        finally:
            await asyncio.gather(*(each.close() for each in others))
        await city.flows()
