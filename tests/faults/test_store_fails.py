"""Valkey dies, hangs and comes back, and the way to it fails: nothing is promised that it has not got."""

from __future__ import annotations

import asyncio

import pytest

from city_inspector.conditions import BLACKHOLE, GOOD, Conditions
from tests.faults.invariants import Allowed
from tests.faults.trial import Trials

OUTAGE_SECONDS = 4.0


@pytest.mark.quick
async def test_valkey_killed_that_writes_everything_at_once(trials: Trials) -> None:
    async with trials("SIGKILL of Valkey, AOF always, three times") as city:
        for _ in range(3):
            city.valkey.restart()
            await city.flows()


async def test_valkey_killed_that_writes_every_second(trials: Trials) -> None:
    async with trials(
        "SIGKILL of Valkey, AOF everysec, three times",
        allowed=Allowed(loses=True),
        flags={"appendfsync": "everysec"},
    ) as city:
        for _ in range(3):
            city.valkey.restart()
            await city.flows()


async def test_valkey_killed_that_has_only_an_old_snapshot(trials: Trials) -> None:
    """What came after the snapshot was acknowledged, and is gone: whoever had seen it has to be told."""
    async with trials(
        "SIGKILL of Valkey, AOF off: back to a snapshot", allowed=Allowed(loses=True), flags={"appendonly": "no"}
    ) as city:
        await city.store.command("SAVE")
        await city.flows()
        city.valkey.restart()
        await city.flows()


async def test_valkey_away_for_a_while(trials: Trials) -> None:
    async with trials("Valkey gone for four seconds") as city:
        city.valkey.kill()
        await asyncio.sleep(OUTAGE_SECONDS)
        city.valkey.start()
        await city.flows()


async def test_valkey_that_hangs(trials: Trials) -> None:
    async with trials("SIGSTOP of Valkey for four seconds") as city:
        city.valkey.hang()
        await asyncio.sleep(OUTAGE_SECONDS)
        city.valkey.resume()
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


async def test_subscribers_whose_output_buffer_is_full(trials: Trials) -> None:
    async with trials("subscribers cut by the output-buffer limit") as city:
        limit = "client-output-buffer-limit"
        [_, before] = await city.store.pair("CONFIG", "GET", limit)
        await city.store.command("CONFIG", "SET", limit, "pubsub 1 1 1")
        await asyncio.sleep(2)
        await city.store.command("CONFIG", "SET", limit, before)
        await city.flows()
