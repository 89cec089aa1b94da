"""An instance that no longer hears the bus notices within three seconds, says so, and misses nothing all the same."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest
import redis

from tests.contract.agents import asker_of
from tests.support.platform import Instance, Platform
from tests.support.valkey import ValkeyServer
from tests.support.waiting import ROOM, eventually

PUBLISH = "post_office.publish_to_agent_channel"


@pytest.fixture
def store() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
async def pair(store: ValkeyServer) -> AsyncIterator[tuple[Instance, Instance]]:
    async with AsyncExitStack() as stack:
        platform = Platform(store, stack)
        yield await platform.start(), await platform.start()


@pytest.fixture
def admin(store: ValkeyServer) -> Iterator[redis.Redis]:
    with redis.Redis(unix_socket_path=str(store.socket)) as client:
        yield client


async def say(city: Instance, *numbers: int) -> None:
    for n in numbers:
        await city.done(PUBLISH, {"channel": "guide", "message": {"n": n}})


async def test_deaf_it_is_not_ready_within_three_seconds_and_ready_when_it_hears(
    pair: tuple[Instance, Instance], admin: redis.Redis
) -> None:
    here, there = pair
    async with asker_of(there) as alice:
        await alice.subscribe("guide")
        await say(here, 0)
        await alice.messages(1, "guide")
        admin.acl_setuser(
            "default",
            enabled=True,
            nopass=True,
            keys=["*"],
            channels=["*"],
            commands=["+@all", "-ssubscribe", "-subscribe"],
        )
        admin.client_kill_filter(_type="pubsub")
        began = time.monotonic()

        async def is_known() -> bool:
            return (await there.http.get("/health/ready")).status_code == 503

        await eventually(is_known, "it says that it is deaf")
        assert time.monotonic() - began < 3 + ROOM
        await say(here, *range(1, 6))
        admin.acl_setuser("default", enabled=True, nopass=True, keys=["*"], channels=["*"], commands=["+@all"])

        async def is_ready() -> bool:
            return (await there.http.get("/health/ready")).status_code == 200

        await eventually(is_ready, "it hears again")
        await say(here, 6)
        heard = [await alice.until(lambda frame: frame["type"] == "message") for _ in range(6)]
        assert [frame["payload"]["n"] for frame in heard] == list(range(1, 7))
        await alice.nothing_but_pong()


async def test_a_subscriber_connection_that_is_killed_again_and_again_costs_nobody_anything(
    pair: tuple[Instance, Instance], admin: redis.Redis
) -> None:
    here, there = pair
    async with asker_of(here) as near, asker_of(there) as far:
        for client in (near, far):
            await client.subscribe("guide")
        for n in range(30):
            await say(here, n)
            if n % 3 == 0:
                admin.client_kill_filter(_type="pubsub")
        for client in (near, far):
            heard = [await client.until(lambda frame: frame["type"] == "message") for _ in range(30)]
            assert [frame["payload"]["n"] for frame in heard] == list(range(30))
            await client.nothing_but_pong()


async def test_a_bus_that_throws_everybody_out_loses_nothing(
    pair: tuple[Instance, Instance], admin: redis.Redis
) -> None:
    """Valkey cuts a subscriber whose output grows beyond its limit: here with whatever is large."""
    here, there = pair
    async with asker_of(there) as alice:
        await alice.subscribe("guide")
        admin.config_set("client-output-buffer-limit", "pubsub 4096 0 0")
        for n in range(20):
            await here.done(PUBLISH, {"channel": "guide", "message": {"n": n, "fill": "x" * 20_000}})
        admin.config_set("client-output-buffer-limit", "pubsub 33554432 8388608 60")
        heard = [await alice.until(lambda frame: frame["type"] == "message") for _ in range(20)]
        assert [frame["payload"]["n"] for frame in heard] == list(range(20))
        await alice.nothing_but_pong()
