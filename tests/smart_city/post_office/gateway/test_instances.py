"""Several instances over one store: what one takes in, all hand out, and what operators see of them in the keys."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.support.platform import IMPATIENT, Instance, Platform, unique
from tests.support.waiting import PATIENCE, ROOM, eventually, until
from tests.support.wire_client import WireClient

ALL = {
    "guide": ["subscribe", "send", "history", "publish"],
    "pillar:*": ["subscribe", "send", "history", "publish"],
}


def redis_of(platform: Platform) -> Redis:
    return Redis.from_url(platform.server.url)


async def test_what_is_published_on_one_instance_reaches_subscribers_on_both_in_order(
    platform: Platform,
) -> None:
    one, two = await platform.start(), await platform.start()
    token = await one.session(unique("alice"), channels=ALL)
    async with one.connected(token) as near, two.connected(token) as far:
        await near.subscribe("guide")
        await far.subscribe("guide")
        for number in range(100):
            await (near if number % 2 else far).send(type="publish", channel="guide", payload={"n": number})
        for client in (near, far):
            got = await client.messages(100)
            assert [message["offset"] for message in got] == list(range(1, 101))
            assert sorted(message["payload"]["n"] for message in got) == list(range(100))


async def test_an_agent_on_one_instance_answers_a_user_on_another(platform: Platform) -> None:
    one, two = await platform.start(), await platform.start()
    service = await two.service("guide", "post_office.consume")
    async with one.connected(await one.session(unique("alice"))) as alice, two.connected(service) as agent:
        await agent.ask(type="consume", channel="guide")
        await alice.ask(payload={"message": "hello"})
        delivery = await agent.of("delivery")
        await agent.send(type="reply", delivery_id=delivery["delivery_id"], stream="start", payload={})
        await agent.send(type="reply", delivery_id=delivery["delivery_id"], stream="delta", payload={"message": "hi"})
        await agent.ask(type="reply", delivery_id=delivery["delivery_id"], stream="end")
        frames = [await alice.of("chat_response")]
        while frames[-1]["stream"] != "end":
            frames.append(await alice.of("chat_response"))
        assert [frame["stream"] for frame in frames] == ["start", "delta", "end"]
        assert frames[-1]["payload"]["message"] == "hi"


async def test_a_connection_stands_in_its_users_hash_before_the_welcome_and_is_gone_after(
    platform: Platform,
) -> None:
    city = await platform.start()
    name = unique("alice")
    token = await city.session(name)
    redis = redis_of(platform)
    async with city.connected(token) as alice:
        stored = json.loads((await redis.hgetall(f"connections:{name}"))[alice.id.encode()])
        assert stored["instance_id"] == city.settings.instance_id
        assert stored["channels"] == []
        assert stored["connected_at"] and stored["last_heartbeat"]
        await alice.subscribe("guide")
        stored = json.loads((await redis.hgetall(f"connections:{name}"))[alice.id.encode()])
        assert stored["channels"] == ["guide"]
        ttl = (await redis.hpttl(f"connections:{name}", alice.id))[0]
        assert 0 < ttl <= city.settings.instance_lease_seconds * 1000
        members = await redis.smembers(f"subscriptions:{city.settings.instance_id}")
        assert members == {b"guide"}
        found = await city.done("post_office.get_connection", {"connection_id": alice.id})
        assert (found["user_id"], found["channels"]) == (name, ["guide"])

    async def gone() -> bool:
        return not await redis.exists(f"connections:{name}", f"subscriptions:{city.settings.instance_id}")

    await eventually(gone, "the keys are gone")
    assert (await city.call("post_office.get_connection", {"connection_id": alice.id})).status_code == 404
    await redis.aclose()


async def test_a_living_connection_is_written_again_with_its_last_heartbeat(platform: Platform) -> None:
    city = await platform.start(instance_lease_seconds=0.5, heartbeat_seconds=0.5)
    name = unique("alice")
    redis = redis_of(platform)
    async with city.connected(await city.session(name)) as alice:
        first = json.loads((await redis.hgetall(f"connections:{name}"))[alice.id.encode()])

        async def beat_later() -> bool:
            raw = (await redis.hgetall(f"connections:{name}")).get(alice.id.encode())
            return raw is not None and json.loads(raw)["last_heartbeat"] > first["last_heartbeat"]

        pinging = asyncio.create_task(read_on(alice))
        await eventually(beat_later, "a later heartbeat is written")
        pinging.cancel()
    await redis.aclose()


async def read_on(client: WireClient) -> None:
    async for _ in client.socket:
        pass


async def test_connections_are_counted_over_all_instances(platform: Platform) -> None:
    one, two = await platform.start(), await platform.start()
    alice, bob = unique("alice"), unique("bob")
    token = await one.session(alice)
    async with (
        one.connected(token, max_queue=None) as first,  # nobody reads what is published, and a full queue hides a close
        two.connected(token) as second,
        two.connected(await one.session(bob), max_queue=None) as third,
    ):
        await first.subscribe("guide")
        await third.subscribe("guide", "pillar:content")
        await second.ask(channel="guide", payload={})
        count = await one.done("post_office.get_connection_count")
        assert count["global"] == 3
        assert count["users"] == 2
        assert count["by_channel"] == {"guide": 2, "pillar:content": 1}
        assert count["by_instance"] == {one.settings.instance_id: 1, two.settings.instance_id: 2}
        found = await two.done("post_office.get_connections_by_channel", {"channel": "guide"})
        assert set(found["connections"]) == {first.id, second.id, third.id}
        stats = await one.http.get("/api/connections/stats", headers={"Authorization": f"Bearer {token}"})
        assert stats.status_code == 403

        async def seen() -> bool:
            published = await one.done(
                "post_office.publish_to_agent_channel", {"channel": "guide", "message": {"n": 1}}
            )
            return bool(published["subscribers"] == 2)

        await eventually(seen, "the other instance's subscriber is counted")


async def test_connections_are_listed_across_instances_with_what_only_their_instance_knows(
    platform: Platform,
) -> None:
    one, two = await platform.start(), await platform.start()
    alice, bob = unique("alice"), unique("bob")
    agent = await one.service("content-agent", "post_office.consume")
    async with (
        one.connected(await one.session(alice)) as first,
        two.connected(await one.session(bob)) as second,
        two.connected(agent) as third,
    ):
        await first.subscribe("guide")
        await third.ask(type="consume", channel="pillar:content")
        listed = await one.done("post_office.list_connections")
        assert (listed["total"], listed["silent_instances"]) == (3, [])
        assert [c["connection_id"] for c in listed["connections"]] == [third.id, second.id, first.id]
        newest, _, oldest = listed["connections"]
        assert (newest["user_id"], newest["consumes"]) == ("~content-agent", ["pillar:content"])
        assert newest["instance_id"] == two.settings.instance_id
        assert (oldest["instance_id"], oldest["channels"]) == (one.settings.instance_id, ["guide"])
        assert (oldest["unsent_bytes"], oldest["address"], oldest["channel_count"]) == (0, "127.0.0.1", 1)
        assert oldest["connected_at"] <= oldest["last_heartbeat"]

        async def ids(**wanted: Any) -> list[str]:
            found = await two.done("post_office.list_connections", wanted)
            return [c["connection_id"] for c in found["connections"]]

        assert await ids(user_id=alice) == [first.id]
        assert await ids(user_id="~content-agent") == [third.id]
        assert await ids(channel="guide") == [first.id]
        assert await ids(channel="pillar:content") == [third.id]
        assert await ids(user_id=bob, channel="guide") == []
        assert await ids(limit=1) == [third.id]
        observer = await one.service("observer", "post_office.observe")
        seen = await one.done("post_office.list_connections", {}, Authorization=f"Bearer {observer}")
        assert not any("address" in c for c in seen["connections"])
        unknown = await one.call("post_office.list_connections", {"channel": "pillar:nowhere"})
        assert unknown.json()["code"] == "unknown_channel"


async def test_bytes_that_wait_for_a_slow_reader_are_listed(platform: Platform) -> None:
    city = await platform.start(max_unsent_bytes=64 * 1024 * 1024)
    name = unique("alice")
    token = await city.session(name, channels=ALL)
    async with WireClient.connected(city.ws_url, token, max_queue=1) as alice:
        await alice.subscribe("guide")
        alice.socket.transport.pause_reading()
        item = {"channel": "guide", "message": {"text": "x" * 200_000}}

        async def is_behind() -> bool:
            await city.done("post_office.publish_batch", {"items": [item] * 10})
            listed = await city.done("post_office.list_connections", {"user_id": name})
            return bool(listed["connections"][0]["unsent_bytes"] > 1_000_000)

        await eventually(is_behind, "bytes wait", 20)
        alice.socket.transport.abort()


async def test_an_instance_that_does_not_answer_is_named(platform: Platform) -> None:
    """One that has its lease still and says nothing any more, as after a SIGSTOP."""
    city = await platform.start(instance_lease_seconds=5)
    redis = redis_of(platform)
    hanging, stem = "hanging#1", f"{platform.prefix}{{instances}}"
    lapses = int((await redis.time())[0]) * 1000 + 10_000
    await redis.hset(f"{stem}:figures", hanging, json.dumps({"instance_id": "hanging"}))
    await redis.zadd(f"{stem}:leases", {hanging: lapses})
    listed = await city.done("post_office.list_connections")
    assert listed["silent_instances"] == ["hanging"]
    await redis.aclose()


async def test_a_revocation_on_one_instance_closes_sockets_on_another_within_a_second(
    platform: Platform,
) -> None:
    one, two = await platform.start(), await platform.start()
    name = unique("alice")
    token = await one.session(name)
    async with two.connected(token) as far:
        await one.done("traffic_cop.revoke_session", {"user_id": name})
        assert await far.close_code(ROOM) == 4501


async def test_the_operator_disconnects_across_instances(platform: Platform) -> None:
    one, two = await platform.start(), await platform.start()
    async with two.connected(await one.session(unique("alice"))) as far:
        done = await one.done("post_office.disconnect", {"connection_id": far.id})
        assert done["disconnected"] == 1
        assert await far.close_code() == 1000


async def test_a_second_instance_of_the_same_name_does_not_start(platform: Platform) -> None:
    city = await platform.start()
    try:
        async with platform.instance(instance_id=city.settings.instance_id):
            raise AssertionError("it started")
    except Exception as refused:
        assert type(refused).__name__ == "Held"


async def test_a_stopped_instance_says_1012_and_another_recovers_the_rest(platform: Platform) -> None:
    two = await platform.start()
    token = await two.session(unique("alice"), channels=ALL)
    async with AsyncExitStack() as stack:
        async with platform.instance() as one:
            alice = await stack.enter_async_context(one.connected(token))
            await alice.subscribe("guide")
            await two.done("post_office.publish_to_agent_channel", {"channel": "guide", "message": {"n": 1}})
            last = await alice.of("message")
            closing = asyncio.create_task(alice.close_code())
        assert await closing == 1012
    await two.done("post_office.publish_to_agent_channel", {"channel": "guide", "message": {"n": 2}})
    async with two.connected(token) as alice:
        ack = await alice.subscribe("guide", offset=last["offset"], epoch=last["epoch"])
        assert ack["guide"]["recovered"] is True
        assert (await alice.of("message"))["payload"] == {"n": 2}


async def test_a_broken_handshake_before_a_drain_harms_nobody_else(platform: Platform) -> None:
    async with AsyncExitStack() as stack:
        async with platform.instance() as city:
            alice = await stack.enter_async_context(city.connected(await city.session(unique("alice"))))
            reader, writer = await asyncio.open_connection("127.0.0.1", city.settings.port)
            writer.write(
                b"GET /ws HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nOrigin: http://[\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            async with asyncio.timeout(PATIENCE):
                await reader.readuntil(b"\r\n\r\n")
            writer.close()
            closing = asyncio.create_task(alice.close_code())
        assert await closing == 1012


async def test_a_drain_ends_calls_that_wait(platform: Platform) -> None:
    city = await platform.start()
    made = await city.done("post_office.subscribe_to_channel", {"channel": "guide", "mode": "inbox"})
    log = await city.done("post_office.subscribe_to_channel", {"channel": "guide", "mode": "log"})
    loop = asyncio.get_running_loop()
    began = loop.time()
    waiting = [
        asyncio.create_task(city.done("post_office.receive_messages", {"consumer": one, "wait_ms": 25000}))
        for one in (made["consumer"], log["consumer"])
    ]
    await eventually(lambda: queue_has_consumer(city), "the call waits")
    await city.app.state.gateway.drain()
    inbox, publications = await asyncio.gather(*waiting)
    assert loop.time() - began < 8 + ROOM
    assert (inbox["deliveries"], publications["publications"]) == ([], [])
    ready = await city.http.get("/health/ready")
    assert ready.status_code == 503


async def queue_has_consumer(city: Instance) -> bool:
    status = await city.done("post_office.get_queue_status", {"channel": "guide"})
    return bool(status["channels"]["guide"]["consumers"])


async def test_the_store_comes_back_and_nobody_missed_anything(platform: Platform) -> None:
    city = await platform.start(**IMPATIENT)
    async with city.connected(await city.session(unique("alice"), channels=ALL)) as alice:
        before = await alice.subscribe("guide")
        await city.done("post_office.publish_to_agent_channel", {"channel": "guide", "message": {"n": 1}})
        assert (await alice.of("message"))["offset"] == 1
        platform.server.restart()
        await until(lambda: city.app.state.gateway.state == "ready", "the instance serves")

        async def published() -> bool:
            answer = await city.call(
                "post_office.publish_to_agent_channel", {"channel": "guide", "message": {"n": 2}, "key": "k2"}
            )
            return answer.status_code == 200

        await eventually(published, "publishing works again")
        message = await alice.of("message", 10)
        assert (message["offset"], message["payload"]) == (2, {"n": 2})
        assert message["epoch"] != before["guide"]["epoch"]
        ack = (await alice.subscribe("guide", offset=0, epoch=before["guide"]["epoch"]))["guide"]
        assert (ack["recovered"], ack["missed"]) == (True, 2)


async def test_with_the_store_away_health_says_degraded_and_subscribing_is_unavailable(
    platform: Platform,
) -> None:
    city = await platform.start(**IMPATIENT)
    async with city.connected(await city.session(unique("alice"), channels=ALL)) as alice:
        await alice.subscribe("guide")
        platform.server.kill()
        try:
            health = (await city.http.get("/api/health")).json()
            assert health["status"] == "degraded"
            assert health["services"]["valkey"]["status"] == "unhealthy"
            await alice.nothing_but_pong()
            ack = await alice.subscribe("pillar:content")
            assert ack["pillar:content"]["error"]["code"] == "unavailable"
        finally:
            platform.server.start()

        async def works() -> bool:
            return bool((await alice.ask(type="publish", channel="guide", payload={})).get("status") == "published")

        await eventually(works, "publishing works again")


async def test_a_client_that_goes_in_the_middle_of_a_replay_leaves_no_error(
    platform: Platform, caplog: pytest.LogCaptureFixture
) -> None:
    city = await platform.start()
    token = await city.session(unique("alice"), channels=ALL)
    items = [{"channel": "guide", "message": {"text": "x" * 20_000}} for _ in range(100)]
    for _ in range(3):
        await city.done("post_office.publish_batch", {"items": items})
    for _ in range(5):
        async with WireClient.connected(city.ws_url, token, max_queue=1) as alice:
            await alice.send(type="subscribe", channels={"guide": {"offset": 0}})
            await alice.socket.recv()
            alice.socket.transport.write_eof()
    await until(lambda: not city.app.state.gateway.connections, "all are gone")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
