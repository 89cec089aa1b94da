"""Section 7: the two keys that operators read, and that nothing stays of those who have left."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
import redis.asyncio

from tests.contract.agents import agent_on, asked, asker_of, reply
from tests.contract.raw import dialled, upgrade
from tests.contract.shapes import TIMESTAMP
from tests.contract.watching import eventually
from tests.support.platform import Instance, Platform, unique
from tests.support.valkey import ValkeyServer
from tests.support.waiting import ROOM

Store = redis.asyncio.Redis
in_town = pytest.mark.asyncio(loop_scope="module")


@asynccontextmanager
async def seen(server: ValkeyServer) -> AsyncIterator[Store]:
    async with Store(unix_socket_path=str(server.socket), decode_responses=True) as client:
        yield client


@pytest.fixture
async def store(valkey_server: ValkeyServer) -> AsyncIterator[Store]:
    """What an operator sees with redis-cli."""
    async with seen(valkey_server) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def books(valkey_server: ValkeyServer) -> AsyncIterator[Store]:
    """The same, for tests of the town."""
    async with seen(valkey_server) as client:
        yield client


async def connections(store: Store, user: str) -> dict[str, dict[str, Any]]:
    read = await store.hgetall(f"connections:{user}")
    return {str(name): json.loads(value) for name, value in read.items()}


async def subscriptions(store: Store, city: Instance) -> set[str]:
    return {str(channel) for channel in await store.smembers(f"subscriptions:{city.settings.instance_id}")}


@in_town
async def test_a_connection_is_in_its_users_hash_before_its_welcome(town: Instance, books: Store) -> None:
    user = unique("alice")
    token = await town.session(user)
    for _ in range(10):
        async with town.connected(token) as alice:
            entry = (await connections(books, user))[alice.id]
            assert entry["instance_id"] == town.settings.instance_id
            assert TIMESTAMP.fullmatch(entry["connected_at"])
            assert TIMESTAMP.fullmatch(entry["last_heartbeat"])
            assert isinstance(entry["channels"], list)
            (ttl,) = await books.httl(f"connections:{user}", alice.id)
            assert 0 < ttl <= town.settings.instance_lease_seconds


@in_town
async def test_both_keys_are_right_before_the_ack_of_a_subscribe_or_unsubscribe(town: Instance, books: Store) -> None:
    user = unique("alice")
    async with town.connected(await town.session(user)) as alice:
        for number in range(10):
            await alice.subscribe("guide", "pillar:content")
            assert {"guide", "pillar:content"} <= set((await connections(books, user))[alice.id]["channels"])
            assert await subscriptions(books, town) == {"guide", "pillar:content"}, number
            await alice.ask(type="unsubscribe", channels=["guide", "pillar:content"])
            left = set((await connections(books, user))[alice.id]["channels"])
            assert not {"guide", "pillar:content"} & left
            assert await subscriptions(books, town) == set(), number


async def test_the_set_has_a_channel_as_long_as_anybody_listens_and_no_private_one(
    city: Instance, store: Store
) -> None:
    user = unique("alice")
    token = await city.session(user)
    async with city.connected(token) as one, city.connected(token) as two:
        await one.subscribe("guide", f"user:{user}", f"connection:{one.id}")
        await two.subscribe("guide", "pillar:content")
        assert await subscriptions(store, city) == {"guide", "pillar:content"}
        await one.ask(type="unsubscribe", channels=["guide"])
        assert await subscriptions(store, city) == {"guide", "pillar:content"}
        two.socket.transport.abort()
        await eventually(lambda: subscriptions(store, city), lambda seen: seen == set(), "nobody listens")
        assert set(await connections(store, user)) == {one.id}


@in_town
@pytest.mark.parametrize("how", ["close", "abort", "revoked", "protocol error"])
async def test_within_a_second_of_a_close_it_is_gone(town: Instance, books: Store, how: str) -> None:
    user = unique("alice")
    token = await town.session(user)
    async with town.connected(token) as alice:
        await alice.subscribe("guide")
        if how == "abort":
            alice.socket.transport.abort()
        elif how == "revoked":
            await town.done("traffic_cop.revoke_session", {"user_id": user})
        elif how == "protocol error":
            await alice.socket.send(b"binary")
        else:
            await alice.socket.close()
        began = time.monotonic()
        await eventually(lambda: connections(books, user), lambda seen: seen == {}, "gone")
        await eventually(lambda: subscriptions(books, town), lambda seen: seen == set(), "gone")
        assert time.monotonic() - began < 1 + ROOM
    assert not await books.exists(f"connections:{user}")


async def test_the_lease_is_renewed_as_long_as_the_connection_lives(platform: Platform, store: Store) -> None:
    city = await platform.start(instance_lease_seconds=3)
    user = unique("alice")
    async with city.connected(await city.session(user)) as alice:
        began = time.monotonic()
        while time.monotonic() < began + 4:  # it would end by itself after 3
            assert set(await connections(store, user)) == {alice.id}
            await asyncio.sleep(0.02)  # between two looks
        await alice.nothing_but_pong()


async def test_heartbeats_move_the_last_heartbeat(platform: Platform, store: Store) -> None:
    city = await platform.start(heartbeat_seconds=0.5, instance_lease_seconds=2)
    user = unique("alice")
    async with city.connected(await city.session(user)) as alice:
        first = (await connections(store, user))[alice.id]

        async def beat() -> str:
            await alice.nothing_but_pong()  # reads, so that protocol-level pings are answered
            return str((await connections(store, user))[alice.id]["last_heartbeat"])

        await eventually(beat, lambda last: last > first["last_heartbeat"], "a later heartbeat")
        last = (await connections(store, user))[alice.id]
        assert last["connected_at"] == first["connected_at"]


async def test_a_drained_instance_leaves_neither_key(platform: Platform, store: Store) -> None:
    user = unique("alice")
    async with AsyncExitStack() as stack:
        leaving = platform.instance()
        city = await leaving.__aenter__()
        alice = await stack.enter_async_context(city.connected(await city.session(user)))
        await alice.subscribe("guide")
        closed = asyncio.create_task(alice.close_code(10))
        await leaving.__aexit__(None, None, None)
        assert await closed == 1012
    assert await connections(store, user) == {}
    assert await subscriptions(store, city) == set()


async def keys_of(store: Store, platform: Platform) -> set[str]:
    """Every key of this test's city, but idempotency and rates, which have their own time."""
    return {key async for key in store.scan_iter(f"{platform.prefix}*", count=1000)}


async def test_two_hundred_connects_and_disconnects_leave_nothing(platform: Platform, store: Store) -> None:
    """Of every kind: closed, cut, refused, cut in the handshake, with subscriptions and with questions under way."""
    city = await platform.start(resume_window_seconds=1)
    users = [unique(f"user{n}") for n in range(10)]
    tokens = [await city.session(user) for user in users]

    async def visit(number: int) -> None:
        token = tokens[number % len(tokens)]
        kind = number % 5
        if kind == 0:
            async with city.connected(token) as client:
                await client.subscribe("guide")
        elif kind == 1:
            async with city.connected(token) as client:
                await client.subscribe("guide", "pillar:content")
                client.socket.transport.abort()
        elif kind == 2:
            async with dialled(city.url) as raw:
                await raw.send(upgrade(token))
        elif kind == 3:
            async with dialled(city.url) as raw:
                await raw.send(upgrade("nonsense"))
                await raw.response()
        else:
            async with dialled(city.url) as raw:
                await raw.send(upgrade(token)[: 40 + number])

    async def wave() -> None:
        for start in range(0, 200, 20):
            await asyncio.gather(*(visit(number) for number in range(start, start + 20)))
        for user in users:
            await eventually(partial(connections, store, user), lambda seen: seen == {}, f"{user} is gone")
        await eventually(lambda: subscriptions(store, city), lambda seen: seen == set(), "nobody listens")
        await eventually(lambda: owners(store, platform), lambda seen: seen == set(), "no connection is owned")

    await wave()
    gc.collect()
    tasks, keys = len(asyncio.all_tasks()), await keys_of(store, platform)
    await wave()
    gc.collect()
    await eventually(number_of_tasks, lambda count: count <= tasks, "no task more than before")
    grown = {key for key in await keys_of(store, platform) - keys if "connection:" in key}
    for key in grown:
        assert await has_an_end(store, key), f"{key} has no end"
    status = (await city.http.get("/health/websocket-gateway")).json()
    assert status["connections"] == 0


async def owners(store: Store, platform: Platform) -> set[str]:
    return {key for key in await keys_of(store, platform) if "owner" in key}


async def number_of_tasks() -> int:
    return len(asyncio.all_tasks())


async def test_all_that_is_kept_of_users_questions_and_sessions_has_an_end(platform: Platform, store: Store) -> None:
    """Whoever comes once must not stay in the store for ever; channels, tokens and instances may."""
    city = await platform.start()
    user = unique("alice")
    async with asker_of(city, user) as alice, agent_on(city, "guide") as agent:
        await alice.subscribe("guide")
        await asked(alice, "guide", "c-1")
        await reply(agent, await agent.of("delivery"), payload={"message": "yes"})
        await alice.of("chat_response")
        await city.done("post_office.send_to_user", {"user_id": user, "message": {}, "key": "k"})
        await city.done("post_office.send_to_connection", {"connection_id": alice.id, "message": {}, "key": "k"})
        gone = alice.id
    await eventually(lambda: connections(store, user), lambda seen: seen == {}, "gone")
    for key in await keys_of(store, platform):
        if user in key or gone in key or "session" in key:
            assert await has_an_end(store, key), f"{key} has no end"


async def has_an_end(store: Store, key: str) -> bool:
    """The key expires, or each of its fields does."""
    if await store.ttl(key) != -1:
        return True
    if await store.type(key) != "hash":
        return False
    names = list(await store.hgetall(key))
    return -1 not in await store.httl(key, *names)


@in_town
async def test_coming_and_going_are_logged_without_a_token(town: Instance, caplog: pytest.LogCaptureFixture) -> None:
    user = unique("alice")
    token = await town.session(user)
    with caplog.at_level(logging.INFO):
        async with town.connected(token) as alice:
            pass
        await eventually(said(caplog, "WebSocket disconnected"), bool, "it is logged")
    assert await said(caplog, "WebSocket connected")()
    told = "\n".join(str(vars(record)) for record in caplog.records if "WebSocket" in record.getMessage())
    assert alice.id in told
    assert user in told
    everything = "\n".join(str(vars(record)) for record in caplog.records)
    assert token not in everything


def said(caplog: pytest.LogCaptureFixture, words: str) -> Any:
    async def look() -> bool:
        return any(words in record.getMessage() for record in caplog.records)

    return look


async def test_a_key_prefix_stands_before_everything_but_the_two_keys(platform: Platform, store: Store) -> None:
    before = {key async for key in store.scan_iter("*", count=1000)}
    city = await platform.start()
    user = unique("alice")
    async with asker_of(city, user) as alice, agent_on(city, "guide", "agents") as agent:
        await alice.subscribe("guide")
        await asked(alice, "guide")
        await agent.of("delivery")
        await city.done("post_office.publish_to_agent_channel", {"channel": "guide", "message": {}, "key": "k"})
        new = {key async for key in store.scan_iter("*", count=1000)} - before
        bare = {key for key in new if not key.startswith(platform.prefix)}
        assert bare == {
            f"connections:{user}", "connections:~agents", f"subscriptions:{city.settings.instance_id}",
        }  # fmt: skip
