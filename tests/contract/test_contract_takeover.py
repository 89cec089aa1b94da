"""4010: a connection id that a second socket resumes belongs to that one, wherever the first may be."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

import pytest
import redis.asyncio
from websockets.exceptions import ConnectionClosed

from tests.contract.agents import agent_on, asked, reply
from tests.contract.resuming import is_fresh, is_resumed, resumed
from tests.support.platform import Instance, Platform, unique
from tests.support.valkey import ValkeyServer
from tests.support.waiting import all_but_one, eventually
from tests.support.wire_client import WireClient


@pytest.fixture
async def pair(platform: Platform) -> tuple[Instance, Instance]:
    return await platform.start(), await platform.start()


@pytest.fixture(params=["the same instance", "another instance"])
def other(request: pytest.FixtureRequest, pair: tuple[Instance, Instance]) -> Instance:
    """Where the second socket comes in."""
    return pair[0] if request.param == "the same instance" else pair[1]


async def test_the_first_socket_is_closed_with_4010_and_the_second_goes_on(
    pair: tuple[Instance, Instance], other: Instance
) -> None:
    here, _ = pair
    user = unique("alice")
    token = await here.session(user)
    async with here.connected(token) as first, resumed(other, token, first.id) as second:
        is_resumed(second, first.id)
        assert await first.close_code() == 4010
        private = f"connection:{first.id}"
        await second.subscribe(private)
        await here.done("post_office.send_to_connection", {"connection_id": first.id, "message": {"n": 1}})
        await second.messages(1, private)
        known = await here.done("post_office.get_connection", {"connection_id": first.id})
        assert known["instance_id"] == other.settings.instance_id
    async with here.connected(token) as fresh:
        is_fresh(fresh, first.id)


async def test_a_duplicated_tab_ends_with_two_connections_and_not_with_a_fight(
    pair: tuple[Instance, Instance], other: Instance
) -> None:
    """Who got 4010 comes back without ``resume``, so that nobody is thrown out a second time."""
    here, _ = pair
    token = await here.session(unique("alice"))
    async with here.connected(token) as first, resumed(other, token, first.id) as copy:
        assert await first.close_code() == 4010
        async with here.connected(token) as back:
            is_fresh(back, first.id)
            await copy.nothing_but_pong()
            await back.nothing_but_pong()


async def test_of_many_who_resume_at_once_one_remains(
    pair: tuple[Instance, Instance], valkey_server: ValkeyServer
) -> None:
    """Ownership moves by compare-and-set: all others are told 4010, and the registry has the one that lives."""
    user = unique("alice")
    token = await pair[0].session(user)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(pair[0].connected(token))
        coming = [stack.enter_async_context(resumed(pair[n % 2], token, first.id)) for n in range(12)]
        clients = [await one for one in coming]
        living = clients[-1]
        is_resumed(living, first.id)
        assert [await client.close_code() for client in (first, *clients[:-1])] == [4010] * len(clients)
        await living.nothing_but_pong()
        store = redis.asyncio.Redis(unix_socket_path=str(valkey_server.socket), decode_responses=True)
        async with store:
            entries = await store.hgetall(f"connections:{user}")
        assert list(entries) == [first.id]
        assert json.loads(entries[first.id])["instance_id"] == living.welcome["instance_id"]


async def test_of_many_who_resume_in_the_same_moment_one_remains(pair: tuple[Instance, Instance]) -> None:
    token = await pair[0].session(unique("alice"))
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(pair[0].connected(token))

        async def come(city: Instance) -> WireClient | None:
            """One of them, unless it was refused before its welcome."""
            try:
                return await stack.enter_async_context(resumed(city, token, first.id))
            except ConnectionClosed as refused:
                assert refused.rcvd is not None and refused.rcvd.code == 4010
                return None

        came = await asyncio.gather(*(come(pair[n % 2]) for n in range(10)))
        closing = {asyncio.create_task(client.close_code()): client for client in (first, *came) if client is not None}
        codes, last = await all_but_one(closing)
        assert codes == [4010] * len(codes)
        last.cancel()
        await asyncio.wait({last})
        await closing[last].nothing_but_pong()


async def test_the_close_of_the_first_takes_nothing_from_the_second(
    platform: Platform, valkey_server: ValkeyServer
) -> None:
    """The end of the old socket and the renewals of its instance leave the entry of the new one alone."""
    here, there = [await platform.start(heartbeat_seconds=1, instance_lease_seconds=2) for _ in range(2)]
    user = unique("alice")
    token = await here.session(user)
    async with here.connected(token) as first, resumed(there, token, first.id) as second:
        assert await first.close_code() == 4010
        await first.socket.close()
        store = redis.asyncio.Redis(unix_socket_path=str(valkey_server.socket), decode_responses=True)
        async with store:
            beats: set[str] = set()

            async def has_been_renewed() -> bool:
                entries = await store.hgetall(f"connections:{user}")
                assert list(entries) == [first.id]
                entry = json.loads(entries[first.id])
                assert entry["instance_id"] == there.settings.instance_id
                beats.add(str(entry["last_heartbeat"]))
                return len(beats) > 2

            await eventually(has_been_renewed, "two heartbeats have gone by", 10)
        await second.nothing_but_pong()


async def test_an_answer_goes_to_the_socket_that_took_over_and_only_there(
    pair: tuple[Instance, Instance], other: Instance
) -> None:
    here, there = pair
    token = await here.session(unique("alice"))
    async with agent_on(there, "guide") as agent, here.connected(token) as first:
        question = await asked(first, "guide")
        delivery = await agent.of("delivery")
        async with resumed(other, token, first.id) as second:
            await second.subscribe(f"connection:{first.id}")
            await reply(agent, delivery, payload={"message": "to you"})
            answer = await second.of("chat_response")
            assert (answer["in_reply_to"], answer["log"]) == (question, f"connection:{first.id}")
            assert not [frame for frame in await rest_of(first) if frame["type"] == "chat_response"]


async def rest_of(client: WireClient) -> list[dict[str, object]]:
    """Everything that still came before the close."""
    got = []
    try:
        while True:
            got.append(await client.next())
    except ConnectionClosed as closed:
        assert closed.rcvd is not None
        assert closed.rcvd.code == 4010
    return got


async def test_a_socket_whose_network_hangs_is_taken_over_all_the_same(
    pair: tuple[Instance, Instance], other: Instance
) -> None:
    """Nothing arrives there any more, and nobody waits for it."""
    token = await pair[0].session(unique("alice"))
    async with pair[0].connected(token) as first:
        first.socket.transport.pause_reading()
        async with resumed(other, token, first.id) as second:
            is_resumed(second, first.id)

            async def is_alone() -> bool:
                counts = await other.done("post_office.get_connection_count")
                return bool(counts["global"] == 1)

            await eventually(is_alone, "one is counted", 10)
            await second.nothing_but_pong()
        first.socket.transport.resume_reading()
