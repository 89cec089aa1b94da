"""Valkey dies, hangs and comes back, and the way to it fails: nothing is promised that it has not got."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from functools import partial

import pytest

from city_inspector.conditions import BLACKHOLE, GOOD, Conditions
from city_inspector.faulting_proxy import FaultingProxy, ProxiedConnection
from tests.faults.invariants import Allowed
from tests.faults.stores import SingleStore
from tests.faults.trial import City, Trials
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually

OUTAGE_SECONDS = 4.0
DEAF_SECONDS = 3.0
"""So soon a deaf subscriber connection is noticed and replaced."""
LOSING = Allowed(loses=True)


@pytest.fixture
def valkey_of_its_own() -> Iterator[ValkeyServer]:
    """One that a test may harm."""
    with ValkeyServer(tcp=True) as server:
        yield server


@pytest.mark.quick
async def test_valkey_killed_that_writes_everything_at_once(trials: Trials, valkey_of_its_own: ValkeyServer) -> None:
    async with trials("SIGKILL of Valkey, AOF always, three times", valkey_of_its_own) as city:
        for _ in range(3):
            valkey_of_its_own.restart()
            await city.flows()


async def test_valkey_killed_that_writes_every_second(trials: Trials) -> None:
    with ValkeyServer(tcp=True, appendfsync="everysec") as valkey:
        async with trials("SIGKILL of Valkey, AOF everysec, three times", valkey, allowed=LOSING) as city:
            for _ in range(3):
                valkey.restart()
                await city.flows()


async def test_valkey_killed_that_has_only_an_old_snapshot(trials: Trials) -> None:
    """What came after the snapshot was acknowledged, and is gone: whoever had seen it has to be told."""
    with ValkeyServer(tcp=True, appendonly="no") as valkey:
        async with trials("SIGKILL of Valkey, AOF off: back to a snapshot", valkey, allowed=LOSING) as city:
            await city.store.command("SAVE")
            await city.flows()
            valkey.restart()
            await city.flows()


async def test_valkey_restarted_in_good_order(trials: Trials, valkey_of_its_own: ValkeyServer) -> None:
    async with trials("restart of Valkey in good order, three times", valkey_of_its_own) as city:
        for _ in range(3):
            await asyncio.to_thread(valkey_of_its_own.shut_down)
            valkey_of_its_own.start()
            await city.flows()


async def test_valkey_away_for_a_while(trials: Trials, valkey_of_its_own: ValkeyServer) -> None:
    async with trials("Valkey gone for four seconds", valkey_of_its_own) as city:
        valkey_of_its_own.kill()
        await asyncio.sleep(OUTAGE_SECONDS)
        valkey_of_its_own.start()
        await city.flows()


async def test_valkey_that_hangs(trials: Trials, valkey_of_its_own: ValkeyServer) -> None:
    async with trials("SIGSTOP of Valkey for four seconds", valkey_of_its_own) as city:
        valkey_of_its_own.hang()
        await asyncio.sleep(OUTAGE_SECONDS)
        valkey_of_its_own.resume()
        await city.flows()


@pytest.mark.parametrize("towards", ["server", "client", "both"])
async def test_a_blackhole_between_an_instance_and_valkey(trials: Trials, towards: str) -> None:
    name = {"server": "commands", "client": "replies", "both": "both ways"}[towards]
    async with trials(f"blackhole instance to Valkey, {name}", lines=True) as city:
        line = city.instances.line("one")
        line.impose(BLACKHOLE, towards=towards)  # type: ignore[arg-type]  # one of the parameters above
        await asyncio.sleep(OUTAGE_SECONDS)
        line.impose(GOOD)
        await city.flows()


async def test_a_slow_way_to_valkey(trials: Trials) -> None:
    async with trials("delay instance to Valkey, 150 to 450 ms", lines=True) as city:
        city.instances.line("one").impose(Conditions(delay=0.075, jitter=0.15))
        await city.flows()
        await asyncio.sleep(OUTAGE_SECONDS)
        city.instances.line("one").impose(GOOD)
        await city.flows()


async def test_resets_between_an_instance_and_valkey(trials: Trials) -> None:
    async with trials("resets instance to Valkey, ten times", lines=True) as city:
        for _ in range(10):
            city.instances.line("one").reset()
            await asyncio.sleep(0.3)
        await city.flows()


async def test_killed_subscribers(trials: Trials) -> None:
    async with trials("CLIENT KILL TYPE pubsub, five times") as city:
        for _ in range(5):
            await city.store.command("CLIENT", "KILL", "TYPE", "pubsub")
            await city.flows()


async def test_a_subscriber_connection_that_is_deaf(trials: Trials) -> None:
    """It stays open and brings nothing, while commands are answered."""
    async with trials("blackhole of an instance's subscriber connection alone, three times", lines=True) as city:
        line = city.instances.line("one")
        for _ in range(3):
            deaf = await subscribers(city, line)
            assert deaf
            for connection in deaf:
                connection.impose(BLACKHOLE, towards="client")
            await eventually(partial(others, city, line, deaf), "another one listens", DEAF_SECONDS)
            await city.flows()


async def subscribers(city: City, line: FaultingProxy) -> list[ProxiedConnection]:
    """The connections of an instance that listen."""
    listed = await city.store.command("CLIENT", "LIST", "TYPE", "pubsub")
    assert isinstance(listed, bytes)
    ports = {int(port) for port in re.findall(rb" addr=[^ ]*:(\d+)", listed)}
    return [connection for connection in line.connections if connection.port_at_server in ports]


async def others(city: City, line: FaultingProxy, known: list[ProxiedConnection]) -> list[ProxiedConnection]:
    return [connection for connection in await subscribers(city, line) if connection not in known]


async def test_subscribers_whose_output_buffer_is_full(trials: Trials) -> None:
    async with trials("subscribers cut by the output-buffer limit") as city:
        assert isinstance(city.store, SingleStore)
        limit = "client-output-buffer-limit"
        before = await city.store.setting(limit)
        await city.store.command("CONFIG", "SET", limit, "pubsub 1 1 1")
        await asyncio.sleep(2)
        await city.store.command("CONFIG", "SET", limit, before)
        await city.flows()
