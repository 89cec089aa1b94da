"""Promise 4: within the resume window a connection's id may be resumed by its user, on any instance."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

import pytest
import redis.asyncio

from tests.contract.agents import agent_on, asked, reply
from tests.contract.packed import PROTOCOL, PackedClient
from tests.contract.resuming import is_fresh, is_resumed, lost, resumed
from tests.contract.shapes import position
from tests.support.platform import Instance, Platform, unique
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually
from tests.support.wire_client import Frame, WireClient

AGENT_CHANNEL = "guide"


@pytest.fixture
async def pair(platform: Platform) -> tuple[Instance, Instance]:
    return await platform.start(), await platform.start()


@pytest.fixture(params=["the same instance", "another instance"])
def back(request: pytest.FixtureRequest, pair: tuple[Instance, Instance]) -> Instance:
    """Where the connection comes back; it was lost at the first."""
    return pair[0] if request.param == "the same instance" else pair[1]


async def test_a_lost_connection_is_resumed_under_its_id(pair: tuple[Instance, Instance], back: Instance) -> None:
    token = await pair[0].session(unique("alice"))
    connection, _ = await lost(pair[0], token)
    async with resumed(back, token, connection) as client:
        is_resumed(client, connection)
        assert client.welcome["instance_id"] == back.settings.instance_id
        assert client.welcome["event"] == "welcome"
        await client.nothing_but_pong()


async def test_nothing_is_sent_on_any_channel_until_it_has_subscribed(
    pair: tuple[Instance, Instance], back: Instance
) -> None:
    """Neither what was missed, nor what is new: then all of it, in order, from the positions that it gives."""
    here, _ = pair
    user = unique("alice")
    token, log = await here.session(user), f"user:{user}"
    async with here.connected(token) as client:
        await client.subscribe(AGENT_CHANNEL)
        connection, private = client.id, f"connection:{client.id}"
        since = {channel: position(at) for channel, at in client.welcome["channels"].items()}
        client.socket.transport.abort()
    await tell(here, user, connection, 0)
    async with resumed(back, token, connection) as client:
        is_resumed(client, connection)
        await tell(here, user, connection, 1)
        await here.done("post_office.publish_to_agent_channel", {"channel": AGENT_CHANNEL, "message": {"n": 1}})
        await client.nothing_but_pong()
        ack = await client.ask(type="subscribe", channels=since)
        for channel in (log, private):
            outcome = ack["channels"][channel]
            assert (outcome["recovered"], outcome["missed"]) == (True, 2)
        for channel in (log, private):
            assert [frame["payload"]["n"] for frame in await client.messages(2, channel)] == [0, 1]
        await tell(here, user, connection, 2)
        for channel in (log, private):
            assert [frame["payload"]["n"] for frame in await client.messages(1, channel)] == [2]
        await client.nothing_but_pong()


async def tell(city: Instance, user: str, connection: str, n: int) -> None:
    await city.done("post_office.send_to_user", {"user_id": user, "message": {"n": n}})
    await city.done("post_office.send_to_connection", {"connection_id": connection, "message": {"n": n}})


async def test_an_answer_finds_the_connection_through_its_reconnections(
    pair: tuple[Instance, Instance], back: Instance
) -> None:
    here, there = pair
    token = await here.session(unique("alice"))
    async with agent_on(there, AGENT_CHANNEL) as agent:
        async with here.connected(token) as client:
            question = await asked(client, AGENT_CHANNEL)
            private = f"connection:{client.id}"
            since = position(client.welcome["channels"][private])
            delivery = await agent.of("delivery")
            client.socket.transport.abort()
        await reply(agent, delivery, payload={"message": "while you were away"})
        async with resumed(back, token, client.id) as again:
            is_resumed(again, client.id)
            outcome = (await again.subscribe(private, **since))[private]
            assert (outcome["recovered"], outcome["missed"]) == (True, 1)
            answer = await again.of("chat_response")
            assert (answer["in_reply_to"], answer["log"]) == (question, private)
            assert answer["payload"] == {"message": "while you were away"}
            await again.nothing_but_pong()


async def test_an_answer_in_parts_goes_on_with_the_text_so_far(pair: tuple[Instance, Instance], back: Instance) -> None:
    here, there = pair
    token = await here.session(unique("alice"))
    async with agent_on(there, AGENT_CHANNEL) as agent:
        async with here.connected(token) as client:
            await asked(client, AGENT_CHANNEL)
            private = f"connection:{client.id}"
            since = position(client.welcome["channels"][private])
            delivery = await agent.of("delivery")
            await reply(agent, delivery, stream="start", payload={})
            start = await client.until(lambda frame: frame.get("stream") == "start")
            await reply(agent, delivery, stream="delta", payload={"message": "one "})
            await client.until(lambda frame: frame.get("stream") == "delta")
            client.socket.transport.abort()
        await reply(agent, delivery, stream="delta", payload={"message": "two "})
        async with resumed(back, token, client.id) as again:
            is_resumed(again, client.id)
            assert (await again.subscribe(private, **since))[private]["recovered"] is True
            text = ""
            while text != "one two ":
                part = await again.until(lambda frame: frame.get("stream") == "delta")
                assert part["message_id"] == start["message_id"]
                text = part["payload"]["message"] if part.get("snapshot") else text + part["payload"]["message"]
            await reply(agent, delivery, stream="delta", payload={"message": "three"})
            await reply(agent, delivery, stream="end", payload={})
            end = await again.until(lambda frame: frame.get("stream") == "end")
            assert end["payload"]["message"] == "one two three"
            assert (end["message_id"], end["log"]) == (start["message_id"], private)


async def test_it_may_be_resumed_again_and_again_wherever_it_falls(pair: tuple[Instance, Instance]) -> None:
    token = await pair[0].session(unique("alice"))
    connection, since = await lost(pair[0], token)
    private = f"connection:{connection}"
    at: Frame = since[private]
    for n in range(8):
        async with resumed(pair[n % 2], token, connection) as client:
            is_resumed(client, connection)
            assert (await client.subscribe(private, **at))[private]["recovered"] is True
            await pair[0].done("post_office.send_to_connection", {"connection_id": connection, "message": {"n": n}})
            (got,) = await client.messages(1, private)
            assert got["payload"] == {"n": n}
            at = position(got)
            client.socket.transport.abort()


async def test_another_user_gets_a_fresh_connection_and_takes_nothing(
    pair: tuple[Instance, Instance], back: Instance
) -> None:
    here, _ = pair
    alice, mallory = [await here.session(unique(name)) for name in ("alice", "mallory")]
    gone, _ = await lost(here, alice)
    async with here.connected(alice) as living:
        for connection in (gone, living.id):
            async with resumed(back, mallory, connection) as other:
                is_fresh(other, connection)
        await living.nothing_but_pong()
    async with resumed(back, alice, gone) as client:
        is_resumed(client, gone)


@pytest.mark.parametrize(
    "connection", ["c" + "0" * 31, "nobody", "", "%00", "a" * 500, "..%2F..", "%F0%9F%98%80", "user:alice", "{x}"]
)
async def test_an_id_that_never_was_is_no_error(city: Instance, connection: str) -> None:
    async with resumed(city, await city.session(unique("alice")), connection) as client:
        is_fresh(client, connection)
        await client.nothing_but_pong()


async def test_a_client_that_closed_with_1000_has_ended_its_window(
    pair: tuple[Instance, Instance], back: Instance
) -> None:
    token = await pair[0].session(unique("alice"))
    async with pair[0].connected(token) as client:
        await client.socket.close(1000)

    async def is_over() -> bool:
        async with resumed(back, token, client.id) as again:
            return again.welcome["resumed"] is False

    await eventually(is_over, "it cannot be resumed")


@pytest.mark.parametrize("code", [1001, 3000, 4000])
async def test_any_other_close_of_a_client_leaves_the_window_open(city: Instance, code: int) -> None:
    token = await city.session(unique("alice"))
    async with city.connected(token) as client:
        await client.socket.close(code)
    async with resumed(city, token, client.id) as again:
        is_resumed(again, client.id)


async def test_after_the_window_what_was_missed_is_found_once_in_the_log_of_the_user(platform: Platform) -> None:
    """The same message ids, exactly once, though every instance may have moved them; a fresh connection reads them."""
    here, there = [await platform.start(resume_window_seconds=1) for _ in range(2)]
    user = unique("alice")
    token, log = await here.session(user), f"user:{user}"
    async with agent_on(there, AGENT_CHANNEL) as agent:
        async with here.connected(token) as client:
            since = position(client.welcome["channels"][log])
            questions = [await asked(client, AGENT_CHANNEL, f"c{n}") for n in range(3)]
            deliveries = [await agent.of("delivery") for _ in questions]
            client.socket.transport.abort()
        await reply(agent, deliveries[0], payload={"n": 0})

        async def is_over() -> bool:
            async with there.connected(token) as watching:
                outcome = (await watching.subscribe(log, **since))[log]
                return bool(outcome["missed"] >= 1)

        await eventually(is_over, "what it missed has moved", 10)
        await reply(agent, deliveries[1], payload={"n": 1})
        await reply(agent, deliveries[2], payload={"n": 2})
        async with resumed(here, token, client.id) as fresh:
            is_fresh(fresh, client.id)
            await fresh.subscribe(log, **since)
            answers = [await fresh.of("chat_response") for _ in questions]
            assert [answer["payload"]["n"] for answer in answers] == [0, 1, 2]
            assert {answer["log"] for answer in answers} == {log}
            assert {answer["in_reply_to"] for answer in answers} == set(questions)
            await fresh.nothing_but_pong()


async def test_the_window_is_as_long_as_it_says(platform: Platform) -> None:
    city = await platform.start(resume_window_seconds=6)
    token = await city.session(unique("alice"))
    connection, _ = await lost(city, token)
    await asyncio.sleep(1.5)  # a part of it: what is tested is that time alone takes nothing away
    async with resumed(city, token, connection) as client:
        is_resumed(client, connection)
        client.socket.transport.abort()

    async def is_unknown() -> bool:
        known = await city.call("post_office.send_to_connection", {"connection_id": connection, "message": {}})
        return known.status_code == 404

    await eventually(is_unknown, "there is no such connection")
    async with resumed(city, token, connection) as client:
        is_fresh(client, connection)


async def test_the_one_being_resumed_does_not_count_among_the_users_connections(platform: Platform) -> None:
    here, there = [await platform.start(max_connections_per_user=2) for _ in range(2)]
    token = await here.session(unique("alice"))
    async with here.connected(token) as one, here.connected(token) as two, resumed(there, token, one.id) as again:
        is_resumed(again, one.id)
        assert await one.close_code() == 4010
        await two.nothing_but_pong()
        with pytest.raises(Exception, match="4029"):
            async with there.connected(token):
                pass


async def test_the_registry_has_it_once_where_it_is(
    pair: tuple[Instance, Instance], back: Instance, valkey_server: ValkeyServer
) -> None:
    user = unique("alice")
    token = await pair[0].session(user)
    connection, _ = await lost(pair[0], token)
    store = redis.asyncio.Redis(unix_socket_path=str(valkey_server.socket), decode_responses=True)
    async with store, resumed(back, token, connection) as client:
        is_resumed(client, connection)
        entries = await store.hgetall(f"connections:{user}")
        assert list(entries) == [connection], "right when the welcome is there"
        assert json.loads(entries[connection])["instance_id"] == back.settings.instance_id
        known = await pair[0].done("post_office.get_connection", {"connection_id": connection})
        assert known["instance_id"] == back.settings.instance_id


async def test_both_encodings_resume_one_another(pair: tuple[Instance, Instance]) -> None:
    token = await pair[0].session(unique("alice"))
    connection, _ = await lost(pair[0], token)
    packed = PackedClient.connected(f"{pair[1].ws_url}?resume={connection}", token, subprotocols=[PROTOCOL])
    async with packed as client:
        is_resumed(client, connection)
        client.socket.transport.abort()
    async with resumed(pair[0], token, connection) as client:
        is_resumed(client, connection)


async def test_two_hundred_who_were_cut_off_at_once_are_all_resumed(platform: Platform) -> None:
    """Their instance is gone, another takes them all; each misses nothing of its own log."""
    settings = {"address_handshakes_per_second": 5000, "max_connections_per_user": 400}
    there = await platform.start(**settings)
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(platform.instance(**settings))
        token = await here.session(unique("alice"))
        clients: list[WireClient] = [await stack.enter_async_context(here.connected(token)) for _ in range(200)]
        known = [client.id for client in clients]
        for client in clients:
            client.socket.transport.abort()

    async def come_back(connection: str) -> None:
        async with resumed(there, token, connection, open_timeout=30) as client:
            is_resumed(client, connection)
            private = f"connection:{connection}"
            assert (await client.subscribe(private, offset=0, epoch=""))[private]["recovered"] is True

    await asyncio.gather(*(come_back(connection) for connection in known))
