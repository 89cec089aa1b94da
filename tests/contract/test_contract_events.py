"""Section 3: a channel as server-sent events, whose ids are positions, resumed where they were left."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.contract.raw import dialled
from tests.contract.shapes import position, text_of
from tests.contract.streams import Event, events_of, following, get, is_published, streaming
from tests.contract.watching import eventually
from tests.support.platform import OPERATOR_TOKEN, Instance, Platform, unique
from tests.support.valkey import ValkeyServer
from tests.support.waiting import PATIENCE, ROOM

in_town = pytest.mark.asyncio(loop_scope="module")
Frame = dict[str, Any]


async def say(city: Instance, channel: str, *numbers: int, **more: Any) -> list[Frame]:
    return [
        await city.done("post_office.publish_to_agent_channel", {"channel": channel, "message": {"n": n, **more}})
        for n in numbers
    ]


def numbers(channel: str, events: list[Event]) -> list[int]:
    return [is_published(event, channel)["payload"]["n"] for event in events]


@in_town
class TestFollowing:
    async def test_what_is_published_once_the_stream_is_open_arrives(self, town: Instance, channel: str) -> None:
        await say(town, channel, 0)
        token = await town.session(unique("alice"))
        async with following(town, channel, token) as stream:
            said = await say(town, channel, *range(1, 6))
            events = await stream.many(5)
            assert numbers(channel, events) == [1, 2, 3, 4, 5]
            assert [event.id for event in events] == [text_of(told) for told in said]
            assert [event.value["message_id"] for event in events] == [told["message_id"] for told in said]

    async def test_an_event_says_what_a_socket_says(self, town: Instance, channel: str) -> None:
        token = await town.session(unique("alice"))
        async with following(town, channel, token) as stream, town.connected(token) as alice:
            await alice.subscribe(channel)
            await say(town, channel, 1, text="naïve \u2028 \r\n\r\nid: 9.x\r\n\r\ndata: {}\n\n😀 \x00")
            (got,) = await alice.messages(1, channel)
            value = is_published(await stream.next(), channel)
            same = {"sender", "payload", "message_id", "offset", "epoch", "timestamp"}
            assert {name: value[name] for name in same} == {name: got[name] for name in same}
            await say(town, channel, 2)
            assert numbers(channel, [await stream.next()]) == [2], "what a payload says is no event"

    @pytest.mark.parametrize("left_at", [0, 1, 4, 9])
    async def test_the_last_id_goes_on_where_it_was_left(self, town: Instance, channel: str, left_at: int) -> None:
        said = await say(town, channel, *range(10))
        async with following(town, channel, await town.session(unique("alice")), text_of(said[left_at])) as stream:
            assert (stream.ack["recovered"], stream.ack["missed"]) == (True, 9 - left_at)
            await say(town, channel, 10, 11)
            assert numbers(channel, await stream.many(11 - left_at)) == list(range(left_at + 1, 12))

    async def test_coming_back_again_and_again_misses_nothing(self, town: Instance, channel: str) -> None:
        token = await town.session(unique("alice"))
        heard: list[int] = []
        async with following(town, channel, token) as stream:
            await say(town, channel, 0)
            heard += numbers(channel, [await stream.next()])
            last = stream.last_id
        talking = asyncio.create_task(say(town, channel, *range(1, 60)))
        while len(heard) < 60:
            async with following(town, channel, token, last) as stream:
                heard += numbers(channel, await stream.many(min(3, 60 - len(heard))))
                last = stream.last_id
        await talking
        assert heard == list(range(60))

    async def test_who_heard_nothing_yet_can_come_back_too(self, town: Instance, channel: str) -> None:
        """Without an id from the start, a quiet channel would lose what is said while a reader is away."""
        token = await town.session(unique("alice"))
        await say(town, channel, 0)
        async with following(town, channel, token) as stream:
            last = stream.last_id
        await say(town, channel, 1)
        async with following(town, channel, token, last) as stream:
            assert numbers(channel, [await stream.next()]) == [1]

    async def test_an_empty_channel_can_be_come_back_to(self, town: Instance, channel: str) -> None:
        token = await town.session(unique("alice"))
        async with following(town, channel, token) as stream:
            last = stream.last_id
        await say(town, channel, 1, 2)
        async with following(town, channel, token, last) as stream:
            assert numbers(channel, await stream.many(2)) == [1, 2]

    async def test_a_bare_offset_is_taken_in_the_current_epoch(self, town: Instance, channel: str) -> None:
        said = await say(town, channel, *range(4))
        async with following(town, channel, OPERATOR_TOKEN, str(said[1]["offset"])) as stream:
            assert numbers(channel, await stream.many(2)) == [2, 3]
        async with following(town, channel, OPERATOR_TOKEN, "0") as stream:
            assert numbers(channel, await stream.many(4)) == [0, 1, 2, 3]

    async def test_many_readers_hear_the_same(self, town: Instance, channel: str) -> None:
        async def read(token: str, opened: asyncio.Semaphore) -> list[str]:
            async with following(town, channel, token) as stream:
                opened.release()
                return [event.id for event in await stream.many(40, 15)]

        opened = asyncio.Semaphore(0)
        tokens = [await town.session(unique("reader")) for _ in range(30)]
        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(read(token, opened)) for token in tokens]
            for _ in readers:
                await opened.acquire()
            said = await say(town, channel, *range(40))
        assert all(reader.result() == [text_of(told) for told in said] for reader in readers)

    async def test_ones_own_user_log_can_be_followed(self, town: Instance) -> None:
        user = unique("alice")
        async with following(town, f"user:{user}", await town.session(user)) as stream:
            await town.done("post_office.send_to_user", {"user_id": user, "message": {"n": 1}})
            assert (await stream.next()).value["payload"] == {"n": 1}

    async def test_the_large_are_whole(self, town: Instance, channel: str) -> None:
        async with following(town, channel, await town.session(unique("alice"))) as stream:
            await say(town, channel, 1, text="x" * 500_000)
            assert len(is_published(await stream.next(), channel)["payload"]["text"]) == 500_000

    async def test_nothing_between_keeps_it_back_or_keeps_it(self, town: Instance, channel: str) -> None:
        """A proxy that buffers or caches would hold events up, or give them to somebody else."""
        async with following(town, channel, await town.session(unique("alice"))) as stream:
            assert "no-" in stream.headers["cache-control"]
            assert stream.headers["x-accel-buffering"] == "no"
            assert "content-length" not in stream.headers
            assert stream.headers.get("content-encoding", "identity") == "identity"

    async def test_http_1_0_can_follow(self, town: Instance, channel: str) -> None:
        said = await say(town, channel, 1)
        async with dialled(town.url) as raw:
            path = events_of(channel)
            await raw.send(get(path, OPERATOR_TOKEN, "1.0", Last_Event_ID=f"0.{said[0]['epoch']}"))
            head = await raw.reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in head.splitlines()[0]
            async with asyncio.timeout(PATIENCE):
                assert b'"n":1' in (await raw.reader.readuntil(b'"n":1'))


@in_town
class TestWhyNot:
    async def why(self, town: Instance, channel: str, last_id: str) -> tuple[Frame, str]:
        """What is told to one who comes back with this id; what comes after it is good again."""
        async with following(town, channel, OPERATOR_TOKEN, last_id) as stream:
            assert stream.ack["recovered"] is False
            (after,) = await say(town, channel, 77)
            assert numbers(channel, [await stream.next()]) == [77]
            assert stream.last_id == text_of(after)
        return stream.ack, str(stream.ack["reason"])

    @pytest.mark.parametrize(("made", "reason"), [("2.nobody", "unknown_epoch"), ("900", "future")])
    async def test_an_id_that_is_not_good_says_why(self, town: Instance, channel: str, made: str, reason: str) -> None:
        said = await say(town, channel, 0, 1)
        ack, told = await self.why(town, channel, made)
        assert told == reason
        assert position(ack) == position(said[-1]), "what follows starts after it, and who is cut comes back there"

    async def test_a_position_that_this_epoch_has_not_reached_is_future_or_diverged(
        self, town: Instance, channel: str
    ) -> None:
        (said,) = await say(town, channel, 0)
        _, told = await self.why(town, channel, f"900.{said['epoch']}")
        assert told in {"future", "diverged"}


async def test_a_trimmed_position_says_so(platform: Platform) -> None:
    city = await platform.start(history_count=10)
    said = await say(city, "guide", *range(60))
    async with following(city, "guide", OPERATOR_TOKEN, text_of(said[2])) as stream:
        assert (stream.ack["recovered"], stream.ack["reason"]) == (False, "trimmed")
        await say(city, "guide", 60)
        assert numbers("guide", [await stream.next()]) == [60]


@pytest.fixture
def own_server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


async def test_a_restart_of_the_store_is_not_a_gap(own_server: ValkeyServer) -> None:
    async with AsyncExitStack() as stack:
        city = await Platform(own_server, stack).start()
        await say(city, "guide", 0)
        async with following(city, "guide", OPERATOR_TOKEN) as stream:
            (before,) = await say(city, "guide", 1)
            assert numbers("guide", [await stream.next()]) == [1]
            own_server.restart()

            async def again() -> bool:
                called = await city.call(
                    "post_office.publish_to_agent_channel", {"channel": "guide", "message": {"n": 2}, "key": "2"}
                )
                return called.status_code == 200

            await eventually(again, bool, "it is back")
            try:
                after = (await stream.next()).value
                assert after["payload"] == {"n": 2}
                assert after["offset"] == before["offset"] + 1
                assert after["epoch"] != before["epoch"]
            except AssertionError as ended:  # it may end the stream, as long as coming back misses nothing
                assert "ended" in str(ended)
        async with following(city, "guide", OPERATOR_TOKEN, text_of(before)) as stream:
            assert numbers("guide", [await stream.next()]) == [2]


@in_town
class TestRights:
    async def test_without_a_good_token_there_is_nothing(self, town: Instance, channel: str) -> None:
        for token in ("", "nonsense", "ses_nobody", "svc_" + "x" * 43):
            async with streaming(town, channel, token) as stream:
                assert stream.status == 401
                assert json.loads(stream.body)["code"] == "unauthenticated"
                assert stream.headers["content-type"] == "application/problem+json"

    @pytest.mark.parametrize("rights", [["send"], ["publish", "send"], []], ids=str)
    async def test_without_the_right_it_is_forbidden(self, town: Instance, channel: str, rights: list[str]) -> None:
        granted = {channel: rights} if rights else {"guide": ["subscribe", "history"]}
        async with streaming(town, channel, await town.session(unique("bob"), channels=granted)) as stream:
            assert (stream.status, json.loads(stream.body)["code"]) == (403, "forbidden")

    async def test_subscribing_and_reading_history_are_two_rights(self, town: Instance, channel: str) -> None:
        """Who may not read history must not get it here; who may not subscribe must not hear what is new."""
        said = await say(town, channel, 0, 1)
        for rights in (["subscribe"], ["history"]):
            token = await town.session(unique("bob"), channels={channel: rights})
            async with town.connected(token) as bob:
                by_socket = (await bob.subscribe(channel))[channel]
            async with streaming(town, channel, token) as stream:
                assert (stream.status == 200) is ("error" not in by_socket), rights
            async with streaming(town, channel, token, text_of(said[0])) as stream:
                assert (stream.status == 200) is ("error" not in by_socket), rights

    async def test_logs_of_others_are_never_given(self, town: Instance) -> None:
        bob = unique("bob")
        token = await town.session(unique("mallory"))
        async with town.connected(await town.session(bob)) as victim:
            for log in (f"user:{bob}", f"connection:{victim.id}"):
                async with streaming(town, log, token) as stream:
                    assert (stream.status, json.loads(stream.body)["code"]) == (403, "forbidden")

    @pytest.mark.parametrize(
        ("scopes", "status"), [(["post_office.history"], 200), (["post_office.publish"], 403), ([], 403)]
    )
    async def test_a_service_needs_the_scope(
        self, town: Instance, channel: str, scopes: list[str], status: int
    ) -> None:
        async with streaming(town, channel, await town.service(unique("reader"), *scopes)) as stream:
            assert stream.status == status

    @pytest.mark.parametrize(
        "name", ["nowhere", "GUIDE", "user:", "guide%00", "guide/..", "..", "%2e%2e", "guide%0d%0a"]
    )
    async def test_a_channel_that_does_not_exist_is_not_found(self, town: Instance, name: str) -> None:
        async with streaming(town, name, OPERATOR_TOKEN) as stream:
            assert 400 <= stream.status < 500
            assert stream.headers["content-type"] in {"application/problem+json", "application/json"}

    async def test_a_channel_may_be_written_with_escapes(self, town: Instance, channel: str) -> None:
        async with following(town, channel.replace(":", "%3A"), OPERATOR_TOKEN) as stream:
            await say(town, channel, 1)
            assert numbers(channel, [await stream.next()]) == [1]

    @pytest.mark.parametrize("how", ["session", "user", "service"])
    async def test_a_revoked_reader_hears_no_more_within_a_second(self, town: Instance, channel: str, how: str) -> None:
        user = unique("alice")
        if how == "service":
            made = await town.done(
                "traffic_cop.create_service_token", {"realm": unique("r"), "scopes": ["post_office.history"]}
            )
            token, revoke = made["token"], ("revoke_service_token", {"token_id": made["token_id"]})
        else:
            made = await town.done("traffic_cop.create_session", {"user_id": user})
            named = {"session_id": made["session_id"]} if how == "session" else {"user_id": user}
            token, revoke = made["session_token"], ("revoke_session", named)
        async with following(town, channel, token) as stream:
            await say(town, channel, 1)
            assert numbers(channel, [await stream.next()]) == [1]
            await town.done(f"traffic_cop.{revoke[0]}", revoke[1])
            began = time.monotonic()
            left = await stream.rest()
            assert time.monotonic() - began < 1 + ROOM
            assert [event.name for event in left] == ["close"]
            assert left[0].value["code"] == 4501
        async with streaming(town, channel, token) as stream:
            assert stream.status == 401

    async def test_a_session_that_is_over_hears_no_more(self, town: Instance, channel: str) -> None:
        token = await town.session(unique("alice"), ttl_seconds=3)
        async with following(town, channel, token) as stream:
            left = await stream.rest()
            assert (left[-1].name, left[-1].value["code"]) == ("close", 4501)
            assert {event.name for event in left} <= {"close", "system"}

    async def test_a_page_of_another_origin_reads_nothing(self, town: Instance, channel: str) -> None:
        token = await town.session(unique("alice"))
        cookie = {"Cookie": f"session_token={token}", "Origin": "https://evil.example"}
        async with streaming(town, channel, "", **cookie) as stream:
            assert stream.status in {401, 403}
            assert stream.headers.get("access-control-allow-origin") not in {"*", "https://evil.example"}


async def test_a_drain_ends_a_stream_in_good_order_and_another_instance_goes_on(platform: Platform) -> None:
    other = await platform.start()
    async with AsyncExitStack() as stack:
        async with platform.instance() as city:
            token = await city.session(unique("alice"))
            stream = await stack.enter_async_context(following(city, "guide", token))
            await say(city, "guide", 1)
            assert numbers("guide", [await stream.next()]) == [1]
            leaving = asyncio.create_task(stream.rest(10))
            began = time.monotonic()
        assert time.monotonic() - began < 3 + ROOM, "an open stream must not hold up the stop"
        assert [(event.name, event.value["code"]) for event in await leaving] == [("close", 1012)]
        assert stream.is_whole, "it was cut instead of ended"
    await say(other, "guide", 2)
    async with following(other, "guide", token, stream.last_id) as again:
        assert numbers("guide", [await again.next()]) == [2]


async def test_a_quiet_stream_shows_that_it_lives(platform: Platform) -> None:
    city = await platform.start(heartbeat_seconds=0.3)
    async with following(city, "guide", OPERATOR_TOKEN) as stream:
        for _ in range(3):
            async with asyncio.timeout(10):  # by default they are further apart
                assert await stream.raw.reader.read(65536)
