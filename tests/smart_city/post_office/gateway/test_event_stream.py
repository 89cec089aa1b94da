"""Server-sent events on the real platform: the same cursor, recovery and bounds as on a socket."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from tests.support.event_reader import Event, EventReader, offsets
from tests.support.platform import Instance, Platform, unique
from tests.support.valkey import ValkeyServer
from tests.support.waiting import ROOM, eventually, until


async def publish(city: Instance, number: int = 1, *, size: int = 0, channel: str = "guide") -> dict[str, Any]:
    """Publishes so many, one after the other; the last answer."""
    for n in range(number):
        done = await city.done(
            "post_office.publish_to_agent_channel", {"channel": channel, "message": {"n": n, "pad": "x" * size}}
        )
    return done


async def reader_of(city: Instance) -> str:
    return await city.service(unique("reader"), "post_office.history")


async def test_a_stream_begins_with_its_position_and_goes_on_with_what_is_published(city: Instance) -> None:
    token = await city.session(unique("alice"))
    before = await publish(city, 2)
    async with EventReader.connected(city.url, "guide", token) as events:
        assert events.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert events.headers["cache-control"] == "no-store"
        assert events.headers["x-accel-buffering"] == "no"
        assert events.ack == {"type": "ack", "channel": "guide", "offset": 2, "epoch": before["epoch"]}
        assert events.last_id == f"2.{before['epoch']}"
        assert events.retries
        published = await publish(city)
        [event] = await events.take(1)
        assert (event.name, event.id) == ("message", f"3.{before['epoch']}")
        assert event.data["message_id"] == published["message_id"]
        assert event.data["payload"]["n"] == 0


async def test_a_cut_stream_is_resumed_on_another_instance_without_gap_or_duplicate(platform: Platform) -> None:
    one, two = await platform.start(), await platform.start()
    token = await one.session(unique("alice"))
    async with EventReader.connected(one.url, "guide", token) as events:
        await publish(two, 3)
        seen = offsets(await events.take(3))
        last = events.last_id
    await publish(one, 2)
    async with EventReader.connected(two.url, "guide", token, last=last) as events:
        assert events.ack["recovered"] is True
        assert events.ack["missed"] == 2
        assert events.ack["offset"] == 3
        await publish(one, 2)
        seen += offsets(await events.take(4))
    assert seen == [1, 2, 3, 4, 5, 6, 7]


async def test_the_last_event_id_wins_over_since(city: Instance) -> None:
    token = await reader_of(city)
    epoch = (await publish(city, 5))["epoch"]
    async with EventReader.connected(city.url, "guide", token, since=f"1.{epoch}") as events:
        assert offsets(await events.take(4)) == [2, 3, 4, 5]
    async with EventReader.connected(city.url, "guide", token, since=f"1.{epoch}", last=f"3.{epoch}") as events:
        assert offsets(await events.take(2)) == [4, 5]


async def test_what_happens_while_valkey_restarts_is_followed_into_the_new_epoch(platform: Platform) -> None:
    with ValkeyServer() as server:
        platform.server = server
        city = await platform.start(valkey_timeout_seconds=0.5)
        token = await reader_of(city)
        first = await publish(city, 2)
        async with EventReader.connected(city.url, "guide", token) as events:
            server.restart()
            after = await eventually(lambda: try_to_publish(city), "it publishes again", 20)
            [event] = await events.take(1, 10)
            assert event.id == f"3.{after['epoch']}"
            assert after["epoch"] != first["epoch"]
        async with EventReader.connected(city.url, "guide", token, last=f"1.{first['epoch']}") as events:
            assert events.ack["recovered"] is True
            assert [e.id for e in await events.take(2)] == [f"2.{first['epoch']}", f"3.{after['epoch']}"]


async def try_to_publish(city: Instance) -> dict[str, Any]:
    response = await city.call("post_office.publish_to_agent_channel", {"channel": "guide", "message": {}, "key": "k"})
    return response.json() if response.status_code == 200 else {}


async def test_a_position_that_was_trimmed_is_told_and_the_stream_begins_at_the_newest(platform: Platform) -> None:
    city = await platform.start(history_count=5)
    token = await reader_of(city)
    epoch = (await publish(city, 200))["epoch"]
    async with EventReader.connected(city.url, "guide", token, since=f"1.{epoch}") as events:
        assert events.ack["recovered"] is False
        assert events.ack["reason"] == "trimmed"
        assert events.last_id == f"200.{epoch}"
        await publish(city)
        assert offsets(await events.take(1)) == [201]


async def test_a_slow_reader_lags_and_gets_all_from_the_log(platform: Platform) -> None:
    """Far more is published than may wait here; it takes nothing meanwhile, and then everything in order."""
    city = await platform.start(max_unsent_bytes=64 * 1024)
    token = await reader_of(city)
    async with EventReader.connected(city.url, "guide", token, small=True) as events:
        batch = [{"channel": "guide", "message": {"pad": "x" * 30_000}} for _ in range(50)]
        for _ in range(8):
            await city.done("post_office.publish_batch", {"items": batch})
        [stream] = city.app.state.gateway.connections.values()
        assert stream.is_lagging
        assert stream.unsent_bytes < 32 * 1024 + 1024 * 1024  # half of the limit, and what the bus brings at once
        seen = offsets(await events.take(400, 30))
    assert seen == list(range(1, 401))


async def test_bytes_that_are_being_written_wait_for_the_reader_too(city: Instance) -> None:
    batch = [{"channel": "guide", "message": {"pad": "x" * 30_000}} for _ in range(50)]
    for _ in range(8):
        await city.done("post_office.publish_batch", {"items": batch})
    async with EventReader.connected(city.url, "guide", await reader_of(city), since="0", small=True):

        async def is_stuck() -> bool:
            told = [await city.done("post_office.list_connections") for _ in range(5)]
            unsent = {listed["connections"][0]["unsent_bytes"] for listed in told}
            return len(unsent) == 1 and unsent != {0}

        await eventually(is_stuck, "the replay has come to a stop, and what was not taken is told")


async def test_a_reader_that_takes_nothing_is_cut_off(platform: Platform) -> None:
    city = await platform.start(max_unsent_bytes=64 * 1024, stall_seconds=0.3)
    token = await reader_of(city)
    async with EventReader.connected(city.url, "guide", token, small=True) as events:
        batch = [{"channel": "guide", "message": {"pad": "x" * 30_000}} for _ in range(100)]
        for _ in range(4):
            await city.done("post_office.publish_batch", {"items": batch})
        await until(lambda: not city.app.state.gateway.connections, "it is cut off", 20)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await events.take(1000, 20)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system cannot notice it")
async def test_a_reader_that_has_vanished_is_noticed_by_what_the_system_still_holds_for_it(platform: Platform) -> None:
    """All is handed to the system, which goes on trying: nothing waits here, and heartbeats seem to arrive."""
    city = await platform.start(heartbeat_seconds=0.2)
    token = await reader_of(city)
    async with EventReader.connected(city.url, "guide", token, small=True):
        await publish(city, size=60_000)
        await until(lambda: not city.app.state.gateway.connections, "it is noticed", 20)


async def test_a_revoked_session_ends_its_streams_within_a_second_on_every_instance(platform: Platform) -> None:
    one, two = await platform.start(), await platform.start()
    user = unique("alice")
    token = await one.session(user)
    async with EventReader.connected(two.url, "guide", token) as events:
        await one.done("traffic_cop.revoke_session", {"user_id": user})
        last = await events.ends(ROOM)
        assert (last.name, last.data["code"]) == ("close", 4501)
        assert events.is_whole
    async with EventReader.connected(two.url, "guide", token, last=events.last_id) as events:
        assert events.status == 401


async def test_an_expired_session_ends_its_streams(city: Instance) -> None:
    token = await city.session(unique("alice"), ttl_seconds=3)
    async with EventReader.connected(city.url, "guide", token) as events:
        warned = await events.next()
        assert (warned.name, warned.data["event"]) == ("system", "session_expiring")
        last = await events.ends()
        assert (last.name, last.data["code"]) == ("close", 4501)


async def test_a_drain_ends_streams_cleanly_and_says_when_to_come_back(platform: Platform) -> None:
    two = await platform.start()
    async with platform.instance() as one:
        token = await reader_of(one)
        async with EventReader.connected(one.url, "guide", token) as events:
            opening = len(events.retries)
            await one.app.state.gateway.drain()
            last = await events.ends()
            assert (last.name, last.data["code"]) == ("close", 1012)
            assert len(events.retries) == opening + 1
            assert events.is_whole
        refused = await one.http.get("/api/channels/guide/events", headers={"Authorization": f"Bearer {token}"})
        assert refused.status_code == 503
        await publish(two)
    async with EventReader.connected(two.url, "guide", token, last=events.last_id) as events:
        assert offsets(await events.take(1)) == [1]


async def test_a_client_that_leaves_frees_its_place(city: Instance) -> None:
    token = await reader_of(city)
    hub = city.app.state.gateway._desk.joining._hub
    async with EventReader.connected(city.url, "guide", token):
        counted = await city.done("post_office.get_connection_count")
        assert counted["by_channel"] == {"guide": 1}
        assert len(hub._feeds) == 1
    await until(lambda: not hub._feeds, "the feed is given back")
    await until(lambda: not city.app.state.gateway.connections, "nobody is here")
    counted = await city.done("post_office.get_connection_count")
    assert (counted["by_channel"], counted["global"]) == ({}, 0)


async def test_streams_count_towards_the_connections_of_a_user(platform: Platform) -> None:
    city = await platform.start(max_connections_per_user=2)
    user = unique("alice")
    token = await city.session(user)
    async with city.connected(token), EventReader.connected(city.url, "guide", token) as events:
        found = (await city.http.get("/api/connections/info", headers={"Authorization": f"Bearer {token}"})).json()
        assert sorted(c["channels"] for c in found["connections"]) == [[], ["guide"]]
        listed = (await city.done("post_office.list_connections"))["connections"]
        assert [c["address"] for c in listed if c["channels"]] == ["127.0.0.1"]
        async with EventReader.connected(city.url, "guide", token) as refused:
            assert refused.status == 503
        await city.done("post_office.disconnect", {"user_id": user})
        assert (await events.ends()).data["code"] == 1000


async def test_streams_count_towards_the_connections_of_an_instance(platform: Platform) -> None:
    city = await platform.start(max_connections=1)
    token = await reader_of(city)
    async with (
        EventReader.connected(city.url, "guide", token),
        EventReader.connected(city.url, "guide", token) as refused,
    ):
        assert refused.status == 503


async def test_silence_is_filled_with_heartbeats(platform: Platform) -> None:
    city = await platform.start(heartbeat_seconds=0.2)
    token = await city.session(unique("alice"))
    async with EventReader.connected(city.url, "guide", token) as events:
        [stream] = city.app.state.gateway.connections.values()
        opened = stream.last_heartbeat
        waiting = asyncio.create_task(events.next(10))
        await until(lambda: len(events.comments) > 1, "two heartbeats")
        assert events.comments[0] == "heartbeat"
        await until(lambda: stream.last_heartbeat > opened, "it counts as heard")
        await publish(city)
        assert (await waiting).data["offset"] == 1


async def test_answers_on_a_users_log_come_with_their_parts(city: Instance) -> None:
    """Who follows ``user:ID`` gets what was answered after the asker had gone, and is told apart by its type."""
    user = unique("alice")
    token = await city.session(user)
    async with EventReader.connected(city.url, f"user:{user}", token) as events:
        await city.done("post_office.send_to_user", {"user_id": user, "message": {"message": "hello"}})
        [event] = await events.take(1)
        assert (event.name, event.data["type"]) == ("message", "message")
        assert event.id


async def test_line_breaks_in_a_payload_do_not_break_an_event(city: Instance) -> None:
    token = await city.session(unique("alice"), channels={"guide": ["subscribe", "publish"]})
    async with EventReader.connected(city.url, "guide", token) as events, city.connected(token) as alice:
        frame = '{"type": "publish", "channel": "guide", "payload": {\r\n"a":\n1,\r"b": "c\\nd"}}'
        await alice.socket.send(frame)
        [event] = await events.take(1)
        assert event.data["payload"] == {"a": 1, "b": "c\nd"}


@pytest.mark.parametrize(
    ("accept", "status"),
    [("application/json", 406), ("text/event-stream;q=0", 406), ("*/*", 200), ("text/*", 200), ("", 200),
     ("text/html, text/event-stream;q=0.5", 200)],
)  # fmt: skip
async def test_a_client_that_cannot_read_events_is_told_so(city: Instance, accept: str, status: int) -> None:
    token = await reader_of(city)
    async with EventReader.connected(city.url, "guide", token, Accept=accept) as events:
        assert events.status == status


async def test_strangers_foreigners_and_the_curious_get_nothing(city: Instance) -> None:
    alice = await city.session(unique("alice"), channels={"guide": ["subscribe"]})
    nothing = await city.service(unique("nothing"), "post_office.publish")
    for channel, token, status in (
        ("guide", "", 401), ("guide", "ses_" + "x" * 43, 401), ("guide", nothing, 403), ("pillar:content", alice, 403),
        ("user:bob", alice, 403), ("connection:c1", alice, 403), ("nowhere", alice, 404), ("G!", alice, 422),
    ):  # fmt: skip
        async with EventReader.connected(city.url, channel, token) as events:
            assert events.status == status, (channel, status)
            assert events.headers["content-type"] == "application/problem+json"
        async with EventReader.connected(city.url, channel, token, method="HEAD") as events:
            assert events.status == status, (channel, status)


async def test_a_head_request_opens_no_stream(city: Instance) -> None:
    token = await reader_of(city)
    async with EventReader.connected(city.url, "guide", token, method="HEAD") as events:
        assert events.status == 200
        assert events.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert not city.app.state.gateway.connections


@pytest.mark.parametrize("last", ["nonsense", "1.2.3", "-1"])
async def test_an_event_id_that_is_no_position_is_refused(city: Instance, last: str) -> None:
    token = await reader_of(city)
    async with EventReader.connected(city.url, "guide", token, last=last) as events:
        assert events.status == 422


async def test_a_page_with_the_sessions_cookie_may_follow_its_channels(city: Instance) -> None:
    cookie = f"session_token={await city.session(unique('alice'))}"
    for origin, status in ((city.url, 200), ("https://evil.example", 403)):
        async with EventReader.connected(city.url, "guide", "", Cookie=cookie, Origin=origin) as events:
            assert events.status == status


async def test_an_answer_in_parts_comes_part_by_part_and_to_a_joiner_as_a_snapshot(city: Instance) -> None:
    user = unique("alice")
    token, agent_token = await city.session(user), await city.service(unique("agent"), "post_office.consume")
    async with city.connected(agent_token) as agent, EventReader.connected(city.url, f"user:{user}", token) as events:
        await agent.ask(type="consume", channel="guide")
        await city.done(
            "post_office.send_to_agent", {"channel": "guide", "message": {"message": "hi"}, "reply_to": f"user:{user}"}
        )
        delivery = (await agent.of("delivery"))["delivery_id"]
        await agent.ask(type="reply", delivery_id=delivery, stream="start")
        [start] = await events.take(1)
        await agent.ask(type="reply", delivery_id=delivery, stream="delta", payload={"message": "Good "})
        [part] = await events.take(1)
        assert (start.data["stream"], part.data["stream"], part.data["payload"]) == (
            "start", "delta", {"message": "Good "},
        )  # fmt: skip
        assert start.id
        assert not part.id
        async with EventReader.connected(city.url, f"user:{user}", token, last=start.id) as joiner:
            [snapshot] = await joiner.take(1)
            assert (snapshot.data["snapshot"], snapshot.data["payload"]) == (True, {"message": "Good "})
            await agent.ask(type="reply", delivery_id=delivery, stream="end", payload={"message": "Good morning"})
            for reader in (events, joiner):
                *_, end = await reader.until(lambda event: event.data.get("stream") == "end")
                assert end.data["payload"] == {"message": "Good morning"}


async def test_streams_stay_while_valkey_is_away_and_new_ones_are_told(platform: Platform) -> None:
    with ValkeyServer() as server:
        platform.server = server
        city = await platform.start(valkey_timeout_seconds=0.3, heartbeat_seconds=0.2)
        token = await reader_of(city)
        async with EventReader.connected(city.url, "guide", token) as events:
            server.hang()
            waiting = asyncio.create_task(events.next(30))
            await until(lambda: len(events.comments) > 3, "heartbeats go on")
            async with EventReader.connected(city.url, "pillar:content", token) as refused:
                assert refused.status == 503
                assert "retry-after" in refused.headers
            given = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
            told = await city.http.get("/api/channels/pillar:content/events", headers=given)
            assert told.status_code == 200  # at anything else an EventSource would give up
            wait, close = (Event.parse(block) for block in told.text.split("\n\n")[:2])
            assert wait.retry is not None
            assert (close.name, close.data["code"]) == ("close", 1013)
            server.resume()
            published = await eventually(lambda: try_to_publish(city), "it publishes again", 20)
            assert (await waiting).id == f"{published['offset']}.{published['epoch']}"


async def test_a_page_of_an_allowed_origin_may_follow_with_its_credentials(platform: Platform) -> None:
    origin = "https://app.example"
    city = await platform.start(allowed_origins=origin)
    cookie = f"session_token={await city.session(unique('alice'))}"
    async with EventReader.connected(city.url, "guide", "", Cookie=cookie, Origin=origin) as events:
        assert events.status == 200
        assert events.headers["access-control-allow-origin"] == origin
        assert events.headers["access-control-allow-credentials"] == "true"
