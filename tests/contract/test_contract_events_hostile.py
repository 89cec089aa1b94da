"""Readers of events that lie, stall, come by the hundred or leave by half; and odd HTTP on the routes of a channel."""

from __future__ import annotations

import asyncio
import json
import random
import resource
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.contract.raw import Raw, dialled
from tests.contract.shapes import text_of
from tests.contract.streams import Stream, events_of, following, get, is_published, streaming
from tests.contract.watching import eventually
from tests.support.platform import OPERATOR_TOKEN, Instance, Platform, unique
from tests.support.waiting import PATIENCE

in_town = pytest.mark.asyncio(loop_scope="module")
SEED = 20261120
MIB = 1 << 20
Frame = dict[str, Any]


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def say(city: Instance, channel: str, *numbers: int, **more: Any) -> list[Frame]:
    return [
        await city.done("post_office.publish_to_agent_channel", {"channel": channel, "message": {"n": n, **more}})
        for n in numbers
    ]


ODD_IDS = [
    "0", "1", "00", "01", "-1", "+1", "1.", ".", "..", ".x", "1.2.3", "1e3", "1.5", "0x1", "\xd9\xa3", "1 1", "1,2",
    "null", "undefined", "NaN", "{}", '{"offset":0}', "9" * 18, "9" * 19, "9" * 20, "9" * 400, "1." + "e" * 64,
    "1." + "e" * 8000, "1.\x7f", "1.\x01", "1.é", "\xff\xfe", "*", "$", ">", "<", "0-0", "1-1", "1-0.x", "(1", "-",
    "%31.%32", "1;x", "1\t", "\t1", "1.x\t", "1.x\x0b", "2147483648", "4294967296", "9007199254740992",
    "9223372036854775807", "9223372036854775808", "18446744073709551616", "1.{guide}", "1.guide", "1./", "1.../",
]  # fmt: skip


ODD_NAMES = [
    "guide%0d%0aSet-Cookie:%20a=b", "guide%0aevent:%20x", "guide\xff", "%ff", "guide%2f..%2f..", "guide;x=y",
    "guide%00", "%67uide%", "g" * 4000, "guide?x", "guide#x", "guide%3Fx", "pillar:" + "%2e" * 100,
]  # fmt: skip


def shapes(count: int) -> list[str]:
    chance = random.Random(SEED)  # noqa: S311
    signs = "0123456789.-+ex \t,;:{}[]\"'/\\é\xff\x7f$*"
    return [
        "".join(chance.choice(signs) for _ in range(chance.randint(1, chance.choice((3, 8, 40, 300)))))
        for _ in range(count)
    ]


@in_town
async def test_any_last_event_id_is_a_stream_or_a_clear_refusal(town: Instance, channel: str) -> None:
    await say(town, channel, 0, 1)
    before = open_files()
    seen: dict[int, int] = {}

    async def ask(last_id: str) -> None:
        async with streaming(town, channel, OPERATOR_TOKEN, last_id) as stream:
            seen[stream.status] = seen.get(stream.status, 0) + 1
            assert stream.status in {200, 400, 422, 429}, (last_id, stream.body)
            if stream.status == 422:
                assert stream.headers["content-type"] == "application/problem+json"
                assert json.loads(stream.body)["code"] == "invalid_argument"

    for start in range(0, 1200, 20):
        async with asyncio.TaskGroup() as group:
            for last_id in (ODD_IDS + shapes(1200 - len(ODD_IDS)))[start : start + 20]:
                group.create_task(ask(last_id))
    assert seen.get(200, 0) > 20
    assert seen.get(429, 0) == 0, seen

    async def gone() -> int:
        return open_files()

    await eventually(gone, lambda files: files < before + 20, "what left is let go", 10)
    async with following(town, channel, OPERATOR_TOKEN) as stream:
        await say(town, channel, 2)
        assert is_published(await stream.next(), channel)["payload"]["n"] == 2


@in_town
@pytest.mark.parametrize("last_id", [item for item in ODD_IDS if item.strip()])
async def test_a_stream_from_an_odd_id_never_skips_in_silence(town: Instance, channel: str, last_id: str) -> None:
    """It is refused, or gives everything after a position, or says that it cannot."""
    said = await say(town, channel, 0, 1, 2)
    async with streaming(town, channel, OPERATOR_TOKEN, last_id) as stream:
        if stream.status != 200:
            assert 400 <= stream.status < 500
            return
        ack = (await stream.next()).value
        assert "recovered" in ack, "a position was given, and must not be taken for none"
        await say(town, channel, 3)
        first = is_published(await stream.next(), channel)
        if ack["recovered"]:
            assert first["offset"] == int(last_id.strip().partition(".")[0]) + 1
        else:
            assert text_of(ack) == text_of(said[-1])
            assert first["payload"]["n"] == 3


@in_town
async def test_an_id_that_comes_twice_is_one_of_them_or_refused(town: Instance, channel: str) -> None:
    said = await say(town, channel, 0, 1, 2)
    one, two = text_of(said[0]), text_of(said[1])
    request = get(events_of(channel), OPERATOR_TOKEN, Last_Event_ID=one)
    async with dialled(town.url) as raw:
        await raw.send(request.replace(b"\r\n\r\n", f"\r\nLast-Event-ID: {two}\r\n\r\n".encode()))
        status, headers, body = await raw.response()
        if status == 200:
            stream = Stream(raw, status, headers, body)
            assert (await stream.next()).name == "ack"
            assert is_published(await stream.next(), channel)["payload"]["n"] in {1, 2}
        else:
            assert 400 <= status < 500


@in_town
@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("what", ["history", "events"])
async def test_a_name_cannot_put_words_into_the_answer(town: Instance, name: str, what: str) -> None:
    async with dialled(town.url) as raw:
        await raw.send(get(f"/api/channels/{name}/{what}", OPERATOR_TOKEN, Connection="close"))
        head = (await raw.reader.readuntil(b"\r\n\r\n")).lower()
    assert b"set-cookie" not in head
    assert b"\nevent" not in head
    assert 400 <= int(head.split()[1]) < 500 or name in {"guide?x", "guide#x"}


@in_town
async def test_an_id_cannot_put_words_into_the_stream(town: Instance, channel: str) -> None:
    """Whatever is echoed of an id stays on its line."""
    for last_id in ("1.x\\ndata: {}", "1.x%0adata: {}", "1.x\u2028data: {}"):
        async with streaming(town, channel, OPERATOR_TOKEN, last_id.encode().decode("latin-1")) as stream:
            if stream.status == 200:
                assert (await stream.next()).value["recovered"] is False


async def test_who_never_reads_is_not_kept_in_memory_and_holds_nobody_up(platform: Platform) -> None:
    city = await platform.start(max_unsent_bytes=300_000, close_seconds=0.5)
    before = resident()
    async with AsyncExitStack() as stack:
        deaf = [await stack.enter_async_context(following(city, "guide", OPERATOR_TOKEN)) for _ in range(10)]
        for stream in deaf:
            stream.raw.stop_reading()
        listening = await stack.enter_async_context(following(city, "guide", await city.session(unique("alice"))))
        for n in range(200):
            await say(city, "guide", n, text="x" * 60_000)
            assert is_published(await listening.next(), "guide")["payload"]["n"] == n
        grown = resident() - before
        assert grown < 48 * MIB, f"{grown >> 20} MiB more for ten readers that never read"
        slow = deaf[0]
        transport = slow.raw.writer.transport
        assert isinstance(transport, asyncio.ReadTransport)
        transport.resume_reading()
        heard = [is_published(event, "guide")["payload"]["n"] for event in await bounded(slow)]
        assert heard == list(range(len(heard))), "what it got before it was cut has no gap"
        last = slow.last_id
    async with following(city, "guide", OPERATOR_TOKEN, last) as stream:
        assert (stream.ack["recovered"], stream.ack["missed"]) == (True, 200 - len(heard))


async def bounded(stream: Stream) -> list[Any]:
    """What there is for a reader that was slow: until it is cut, or until it has caught up."""
    events: list[Any] = []
    try:
        while len(events) < 200:
            events.append(await stream.next(3))
    except (AssertionError, TimeoutError):
        pass
    return events


async def test_hundreds_of_streams_are_served_or_refused_and_let_go(platform: Platform) -> None:
    city = await platform.start()
    before = open_files()
    tokens = [await city.session(unique("reader")) for _ in range(40)]
    async with AsyncExitStack() as stack:
        opened: list[Stream] = []
        for number in range(400):
            stream = await stack.enter_async_context(streaming(city, "guide", tokens[number % 40]))
            assert stream.status in {200, 429, 503}, (number, stream.body)
            if stream.status == 200:
                assert (await stream.next()).name == "ack"
                opened.append(stream)
        assert len(opened) >= 200
        await say(city, "guide", 7)
        async with asyncio.timeout(15):
            for stream in opened:
                assert is_published(await stream.next(15), "guide")["payload"]["n"] == 7

    async def files() -> int:
        return open_files()

    await eventually(files, lambda count: count < before + 30, "all are let go", 10)
    count = await city.done("post_office.get_connection_count")
    assert count["global"] == 0, count


async def test_one_user_cannot_take_all_streams(platform: Platform) -> None:
    """Streams are connections: what bounds a user's sockets bounds their number, too, or somebody else would starve."""
    city = await platform.start(max_connections=60, max_connections_per_user=10)
    token = await city.session(unique("mallory"))
    async with AsyncExitStack() as stack:
        taken = 0
        for _ in range(80):
            stream = await stack.enter_async_context(streaming(city, "guide", token))
            assert stream.status == 200  # at anything else an EventSource would give up for good
            if stream.body:
                assert b"event: close" in stream.body, stream.body
                assert b"4029" in stream.body, stream.body
            else:
                assert (await stream.next()).name == "ack"
                taken += 1
        assert taken == 10
        async with city.connected(await city.session(unique("alice"))) as alice:
            await alice.nothing_but_pong()


@in_town
async def test_a_reader_that_says_no_more_still_hears_or_is_let_go(town: Instance, channel: str) -> None:
    """Half a close is the end of what it says; some clients and proxies do that at once."""
    async with following(town, channel, await town.session(unique("alice"))) as stream:
        stream.raw.writer.write_eof()
        await say(town, channel, 1)
        try:
            event = await stream.next()
        except (AssertionError, ConnectionError):
            return
        assert is_published(event, channel)["payload"]["n"] == 1


async def test_who_leaves_without_a_word_is_let_go(platform: Platform) -> None:
    city = await platform.start(heartbeat_seconds=0.5)
    before = open_files()
    for number in range(60):
        async with dialled(city.url) as raw:
            await raw.send(get(events_of("guide"), OPERATOR_TOKEN))
            if number % 3:
                await raw.reader.readuntil(b"\r\n\r\n")
            if number % 2:
                raw.writer.write_eof()

    async def files() -> int:
        return open_files()

    await eventually(files, lambda count: count < before + 10, "all are let go", 10)


@in_town
async def test_a_request_behind_a_stream_is_not_mixed_into_it(town: Instance, channel: str) -> None:
    async with following(town, channel, OPERATOR_TOKEN) as stream:
        await stream.raw.send(get("/health/live") * 3)
        await say(town, channel, 1)
        assert is_published(await stream.next(), channel)["payload"]["n"] == 1
        assert b"alive" not in stream.unread


@in_town
@pytest.mark.parametrize("what", ["history", "events"])
async def test_a_body_on_a_get_is_not_taken_for_a_request(town: Instance, channel: str, what: str) -> None:
    body = json.dumps({"channel": channel, "message": {"n": 666}}).encode()
    smuggled = (
        b"POST /soa/post-office/publish_to_agent_channel HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        + f"Authorization: Bearer {OPERATOR_TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    path = f"/api/channels/{channel}/{what}"
    for framing in (
        {"Content_Length": str(len(smuggled))},
        {"Content_Length": "4", "Transfer_Encoding": "chunked"},
        {"Content_Length": "0", "Transfer_Encoding": "chunked"},
        {"Transfer_Encoding": "xchunked"},
    ):
        async with dialled(town.url) as raw:
            await raw.send(get(path, OPERATOR_TOKEN, **framing) + smuggled)
            await status_of(raw)
            raw.writer.write_eof()
    (told,) = await say(town, channel, 1)
    page = (await town.done("post_office.get_channel_history", {"channel": channel}))["publications"]
    assert [entry["payload"]["n"] for entry in page] == [1]
    assert told["offset"] == 1


async def status_of(raw: Raw) -> int:
    async with asyncio.timeout(PATIENCE):
        head = await raw.reader.readuntil(b"\r\n\r\n")
    status = int(head.split()[1])
    assert status < 500, head
    return status


@in_town
async def test_head_and_options_say_no_more_than_they_should(town: Instance, channel: str) -> None:
    await say(town, channel, 1)
    for what in ("history", "events"):
        for method in ("HEAD", "OPTIONS"):
            async with dialled(town.url) as raw:
                request = get(f"/api/channels/{channel}/{what}", OPERATOR_TOKEN, Connection="close")
                await raw.send(request.replace(b"GET", method.encode(), 1))
                whole = await raw.ended(5)
                assert int(whole.split()[1]) < 500
                if method == "HEAD":
                    assert whole.endswith(b"\r\n\r\n"), "the answer to a HEAD has no body"


@in_town
async def test_a_flood_of_readers_that_come_and_go_leaves_a_writer_its_place(town: Instance, channel: str) -> None:
    tokens = [await town.session(unique("reader")) for _ in range(10)]

    async def come_and_go(token: str) -> None:
        for _ in range(30):
            async with streaming(town, channel, token, "0") as stream:
                assert stream.status in {200, 429}, stream.body

    async with asyncio.TaskGroup() as group:
        for token in tokens:
            group.create_task(come_and_go(token))
        said = await say(town, channel, *range(40))
    assert [told["offset"] for told in said] == list(range(1, 41))
