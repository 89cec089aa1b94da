"""Slow readers on a running instance: fed from the logs at their own pace, and cut off only if they take nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.contract.raw import BINARY, frame, text, upgrade
from tests.support.metrics import samples, series
from tests.support.platform import Instance, Platform, unique
from tests.support.waiting import eventually, until
from tests.support.wire_client import PACKED, WireClient

SIZE = 250_000
"""Publications of such a size soon fill what the systems at both ends take."""
UNSENT = 128 * 1024


def narrow(city: Instance) -> socket.socket:
    """A connection whose system takes little for a reader that does not read."""
    end = socket.socket()
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    end.connect(("127.0.0.1", city.settings.port))
    end.setblocking(False)
    return end


async def publish(city: Instance, count: int, *channels: str, start: int = 0) -> dict[str, list[int]]:
    """Publishes to each channel; the offsets."""
    offsets: dict[str, list[int]] = {channel: [] for channel in channels}
    for n in range(start, start + count):
        items = [{"channel": channel, "message": {"n": n, "pad": "x" * SIZE}} for channel in channels]
        done = await city.done("post_office.publish_batch", {"items": items})
        for result in done["results"]:
            offsets[result["channel"]].append(result["offset"])
    return offsets


async def figure(city: Instance, name: str) -> float:
    """One figure of the page of metrics."""
    page = await city.http.get("/metrics", headers=city.operator)
    return samples(page.text)[series(name)]


async def lag(city: Instance, count: int) -> None:
    """So many connections lag, soon."""

    async def do_lag() -> bool:
        return await figure(city, "websocket_connections_lagging") == count

    await eventually(do_lag, f"{count} lag")


async def read_all(client: WireClient, wanted: dict[str, list[int]]) -> dict[str, list[int]]:
    """What comes on each channel until the last offset of each is there; nothing but publications comes."""
    got: dict[str, list[int]] = {channel: [] for channel in wanted}
    while any(got[channel][-1:] != offsets[-1:] for channel, offsets in wanted.items()):
        frame = await client.of("message", 20)
        got[frame["channel"]].append(frame["offset"])
    return got


@pytest.mark.parametrize("subprotocols", [None, [PACKED]], ids=["json", "msgpack"])
async def test_a_slow_reader_is_fed_from_the_logs_and_misses_nothing(
    platform: Platform, subprotocols: Sequence[Subprotocol] | None
) -> None:
    city = await platform.start(max_unsent_bytes=UNSENT)
    channels = ("guide", "pillar:content")
    options: dict[str, Any] = {"sock": narrow(city), "max_queue": 1, "subprotocols": subprotocols}
    async with (
        city.connected(await city.session(unique("quick"))) as quick,
        city.connected(await city.session(unique("slow")), **options) as slow,
    ):
        await quick.subscribe(*channels)
        await slow.subscribe(*channels)
        offsets = await publish(city, 20, *channels)
        assert await read_all(quick, offsets) == offsets, "others do not wait"
        await lag(city, 1)
        [one] = [c for c in (await city.done("post_office.list_connections"))["connections"] if c["is_lagging"]]
        assert one["connection_id"] == slow.id
        assert one["unsent_bytes"] < UNSENT + 4 * SIZE, "what it misses is not kept for it"
        assert await read_all(slow, offsets) == offsets
        await lag(city, 0)
        more = await publish(city, 1, *channels, start=20)
        assert await read_all(slow, more) == more
        assert await figure(city, "websocket_lags_total") >= 1


async def test_who_takes_nothing_while_it_lags_is_closed_with_4009_and_comes_back_to_all_of_it(
    platform: Platform,
) -> None:
    city = await platform.start(max_unsent_bytes=UNSENT, stall_seconds=0.3, close_seconds=0.2)
    token = await city.session(unique("slow"))
    async with city.connected(token, sock=narrow(city), max_queue=1) as slow:
        start = (await slow.subscribe("guide"))["guide"]
        offsets = (await publish(city, 40, "guide"))["guide"]
        await until(lambda: not city.app.state.gateway.connections, "it is closed")
        got = [start["offset"]]
        code = 0
        try:
            while True:
                got.append((await slow.of("message"))["offset"])
        except ConnectionClosed:
            code = await slow.close_code()
    assert code in {4009, 1006}, "the close frame waits behind what was not taken, and that may never be"
    async with city.connected(token) as again:
        ack = (await again.subscribe("guide", offset=got[-1], epoch=start["epoch"]))["guide"]
        assert ack["recovered"]
        rest = [frame["offset"] for frame in await again.messages(ack["missed"])]
    assert got[1:] + rest == offsets


async def test_a_log_that_is_trimmed_while_a_reader_lags_is_reset_for_it(platform: Platform) -> None:
    city = await platform.start(max_unsent_bytes=UNSENT, history_count=5)
    async with city.connected(await city.session(unique("slow")), sock=narrow(city), max_queue=1) as slow:
        await slow.subscribe("guide")
        newest = (await publish(city, 60, "guide"))["guide"][-1]
        reached = 0
        resets = []
        while reached < newest:
            frame = await slow.next(20)
            if frame["type"] == "reset":
                resets.append(frame["reason"])
            else:
                assert frame["offset"] == reached + 1, "nothing is skipped in silence"
            reached = frame["offset"]
        assert set(resets) == {"trimmed"}


async def test_one_who_asks_and_takes_no_answer_is_not_listened_to_until_it_does(platform: Platform) -> None:
    """Answers are never left out, and their number has a bound all the same."""
    city = await platform.start(max_unsent_bytes=UNSENT, user_messages_per_second=10**6, user_messages_burst=10**6)
    async with city.connected(await city.session(unique("alice")), sock=narrow(city), max_queue=1) as alice:
        asked = 0

        async def keep_asking() -> None:
            nonlocal asked
            while True:
                await alice.send(type="ping", id=f"{asked:0128d}")
                asked += 1

        asking = asyncio.create_task(keep_asking())
        gateway = city.app.state.gateway

        async def is_stuck() -> bool:
            before = asked
            await asyncio.sleep(0.2)  # a stretch of time in which nothing more is taken
            return asked == before

        await eventually(is_stuck, "it is not listened to", 20)
        asking.cancel()
        [connection] = gateway.connections.values()
        assert connection.unsent_bytes < 2 * UNSENT
        assert asked > 1000
        for n in range(100):
            assert (await alice.next())["id"] == f"{n:0128d}"
        alice.socket.transport.abort()  # what else waits is not read


async def test_an_agent_that_lags_is_given_no_more_and_others_take_it(platform: Platform) -> None:
    city = await platform.start(max_unsent_bytes=UNSENT)
    token = await city.service(unique("agents"), "post_office.consume", "post_office.history")
    async with city.connected(token, sock=narrow(city), max_queue=1) as stuck, city.connected(token) as other:
        await stuck.subscribe("pillar:content")
        await stuck.ask(type="consume", channel="guide", max=64)
        await publish(city, 40, "pillar:content")
        await lag(city, 1)
        async with city.connected(await city.session(unique("alice"))) as alice:
            for n in range(10):
                await alice.ask(channel="guide", payload={"conversation_id": f"c{n}"})
        await other.ask(type="consume", channel="guide", max=64)
        for _ in range(10):
            await other.of("delivery")
        await stuck.messages(40)
        await lag(city, 0)
        async with city.connected(await city.session(unique("bob"))) as bob:
            await other.ask(type="consume", channel="guide", max=0)
            await bob.ask(channel="guide", payload={})
        await stuck.of("delivery")


@pytest.mark.parametrize("subprotocol", ["smart-city.v1", PACKED])
async def test_who_has_not_taken_the_answers_before_its_upgrade_lags_from_the_start(
    platform: Platform, subprotocol: str
) -> None:
    """The transport had said that it is full to whoever served the connection before, and would never say so again."""
    city = await platform.start(max_unsent_bytes=UNSENT)
    await publish(city, 12, "guide")
    token = await city.session(unique("slow"))
    asked = b"GET /api/channels/guide/history?since=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n\r\n"
    subscribe: dict[str, Any] = {"type": "subscribe", "channels": {"guide": None}}
    sent = frame(BINARY, msgspec.msgpack.encode(subscribe)) if subprotocol == PACKED else text(subscribe)
    upgrading = upgrade(token, Sec_WebSocket_Protocol=subprotocol)
    with narrow(city) as end:
        await asyncio.get_running_loop().sock_sendall(end, asked % token.encode() * 3 + upgrading + sent)
        gateway = city.app.state.gateway
        await until(lambda: any("guide" in c.channels for c in gateway.connections.values()), "it has subscribed")
        [connection] = gateway.connections.values()
        assert connection.socket.transport.get_write_buffer_size() > UNSENT, "the answers wait"
        await publish(city, 3, "guide", start=12)
        assert connection.is_lagging
        assert connection.unsent_bytes < UNSENT
