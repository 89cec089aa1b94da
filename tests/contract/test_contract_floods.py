"""Senders above every limit, readers that never read, peers that fall silent, and places that run out."""

from __future__ import annotations

import asyncio
import resource
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.contract.raw import PING, PONG, TEXT, Raw, dialled, frame, text, upgrade, upgraded
from tests.contract.watching import close_code_of, eventually
from tests.support.platform import Instance, Platform, unique
from tests.support.waiting import PATIENCE, ROOM

Frame = dict[str, Any]
MIB = 1 << 20


def resident() -> int:
    """The memory of this process, in which the instances live, too."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def connections(city: Instance) -> int:
    return int((await city.http.get("/health/websocket-gateway")).json()["connections"])


async def test_ten_thousand_tiny_frames_in_one_write_are_all_answered(platform: Platform) -> None:
    city = await platform.start(user_messages_per_second=100_000, user_messages_burst=100_000)
    async with upgraded(city.url, await city.session(unique("alice"))) as raw:
        sending = asyncio.create_task(raw.send(text({"type": "ping"}) * 10_000, 30))
        for _ in range(10_000):
            assert await raw.json(30) == {"type": "pong"}
        await sending
        await raw.send(text({"type": "ping", "id": "last"}))
        assert await raw.json() == {"type": "pong", "id": "last"}


async def test_five_thousand_pipelined_messages_are_each_answered_once_in_order(platform: Platform) -> None:
    city = await platform.start(user_messages_per_second=100_000, user_messages_burst=100_000)
    token = await city.session(unique("alice"), channels={"guide": ["publish"]})
    data = b"".join(
        text({"type": "publish", "channel": "guide", "payload": {"n": n}, "id": str(n)}) for n in range(5000)
    )
    async with upgraded(city.url, token) as raw:
        sending = asyncio.create_task(raw.send(data, 30))
        acks = [await raw.json(30) for _ in range(5000)]
        await sending
        await raw.send(text({"type": "ping", "id": "last"}))
        assert await raw.json() == {"type": "pong", "id": "last"}
    assert [ack["id"] for ack in acks] == [str(n) for n in range(5000)]
    assert {ack["status"] for ack in acks} == {"published"}
    assert [ack["offset"] for ack in acks] == list(range(acks[0]["offset"], acks[0]["offset"] + 5000))


async def test_above_the_rate_each_pipelined_message_is_still_answered_once(city: Instance) -> None:
    async with upgraded(city.url, await city.session(unique("alice"))) as raw:
        data = b"".join(text({"channel": "guide", "payload": {"n": n}, "id": str(n)}) for n in range(5000))
        sending = asyncio.create_task(raw.send(data, 30))
        answers = [await raw.json(30) for _ in range(5000)]
        await sending
    assert sorted(int(answer["id"]) for answer in answers) == list(range(5000))
    queued = [int(answer["id"]) for answer in answers if answer["type"] == "ack"]
    assert queued == sorted(queued)
    codes = {answer.get("code", answer.get("status")) for answer in answers}
    assert codes <= {"queued", "rate_limited", "overloaded"}
    assert "queued" in codes
    assert "rate_limited" in codes


async def pour(raw: Raw, data: bytes, most: int) -> int:
    """Writes until the other side takes nothing for a second, or ends the connection; how much it took."""
    poured = 0
    try:
        while poured < most:
            await raw.send(data, 1)
            poured += len(data)
    except (TimeoutError, ConnectionError):
        pass
    return poured


@pytest.mark.parametrize(
    "words",
    [text({"type": "ping", "id": "x" * 64}), text("nonsense"), frame(PING, b"x" * 125),
     text({"type": "subscribe", "channels": {"guide": {"offset": 0, "epoch": "x"}, "y" * 100: None}})],
    ids=["ping", "nonsense", "protocol-level ping", "subscribe"],
)  # fmt: skip
async def test_who_sends_and_never_reads_is_not_kept_in_memory(platform: Platform, words: bytes) -> None:
    city = await platform.start(close_seconds=0.5)
    data = words * 2000
    before = resident()
    async with upgraded(city.url, await city.session(unique("mallory"))) as raw:
        raw.stop_reading()
        poured = await pour(raw, data, 24 * MIB)
        grown = resident() - before
        assert grown < 32 * MIB, f"{grown >> 20} MiB more for a sender that never reads"
        if poured >= 24 * MIB and words[0] & 0x0F == TEXT:  # all was taken, so it is being thrown out
            await eventually(lambda: connections(city), lambda count: count == 0, "it is thrown out", 10)
        assert (await city.http.get("/health/ready")).status_code == 200
    await eventually(lambda: connections(city), lambda count: count == 0, "it is gone", 10)


async def test_one_flood_does_not_hold_up_the_others(platform: Platform) -> None:
    city = await platform.start(close_seconds=0.5)
    async with (
        upgraded(city.url, await city.session(unique("mallory"))) as raw,
        city.connected(await city.session(unique("alice"))) as alice,
    ):
        flood = asyncio.create_task(pour(raw, text("nonsense") * 500, 20 * MIB))
        slowest = 0.0
        for _ in range(20):
            began = time.monotonic()
            await alice.nothing_but_pong()
            slowest = max(slowest, time.monotonic() - began)
        flood.cancel()
        await asyncio.gather(flood, return_exceptions=True)
    assert slowest < 2


async def test_a_message_of_countless_fragments_is_bounded(city: Instance) -> None:
    before = resident()
    async with upgraded(city.url, await city.session(unique("mallory"))) as raw:
        await raw.send(frame(TEXT, b"{", fin=False))
        poured = await pour(raw, frame(0, b"", fin=False) * 50_000, 4 * MIB)
        assert resident() - before < 32 * MIB, f"{poured} bytes of nothing"
    assert (await city.http.get("/health/live")).status_code == 200


class TestSilence:
    async def test_two_heartbeats_without_an_answer_close_with_4008(self, platform: Platform) -> None:
        city = await platform.start(heartbeat_seconds=0.4)
        async with upgraded(city.url, await city.session(unique("alice"))) as raw:
            began = time.monotonic()
            seen: list[str] = []
            while True:
                opcode, data = await raw.frame()
                if opcode == 8:
                    break
                seen.append("ping" if opcode == PING else str(data))
            assert int.from_bytes(data[:2], "big") == 4008
            assert 0.4 < time.monotonic() - began < 0.8 + ROOM
            assert "ping" in seen
            assert any("heartbeat" in word for word in seen)

    async def test_who_answers_stays_and_hears_heartbeats(self, platform: Platform) -> None:
        city = await platform.start(heartbeat_seconds=0.2)
        async with upgraded(city.url, await city.session(unique("alice"))) as raw:
            beats = 0
            async with asyncio.timeout(PATIENCE):
                while beats < 5:
                    opcode, data = await raw.frame()
                    assert opcode in {TEXT, PING}, (opcode, data)
                    if opcode == PING:
                        await raw.send(frame(PONG, data))
                    else:
                        assert data == b'{"type":"heartbeat"}'
                        beats += 1

    async def test_a_peer_that_vanished_is_noticed_and_forgotten(self, platform: Platform) -> None:
        """Its end never says so: the network took it. The close has no answer either."""
        city = await platform.start(heartbeat_seconds=0.3, close_seconds=0.3)
        user = unique("alice")
        async with upgraded(city.url, await city.session(user)) as raw:
            raw.stop_reading()
            await eventually(lambda: connections(city), lambda count: count == 0, "it is noticed")

    async def test_a_handshake_that_never_ends_is_ended(self, platform: Platform) -> None:
        city = await platform.start(handshake_seconds=0.5)

        async def linger(start: bytes) -> float:
            async with dialled(city.url) as raw:
                began = time.monotonic()
                if start:
                    await raw.send(start)
                await raw.ended()
                return time.monotonic() - began

        starts = (b"", b"GET /ws HTTP/1.1\r\nHost: x\r\n", b"G", b"\r\n" * 10, upgrade()[:-2])
        assert max(await asyncio.gather(*(linger(start) for start in starts))) < 0.5 + ROOM

    async def test_a_handshake_in_drops_does_not_begin_anew_with_each(self, platform: Platform) -> None:
        city = await platform.start(handshake_seconds=0.5)
        request = upgrade(await city.session(unique("alice")))
        async with dialled(city.url) as raw:
            began = time.monotonic()
            ended = asyncio.create_task(raw.ended())
            for byte in request[:-2]:
                if ended.done():
                    break
                try:
                    await raw.send(bytes([byte]))
                except ConnectionError:
                    break
                await asyncio.wait([ended], timeout=0.05)
            await ended
            assert time.monotonic() - began < 0.5 + ROOM

    async def test_a_close_that_nobody_answers_does_not_keep_the_place(self, platform: Platform) -> None:
        city = await platform.start(close_seconds=0.3)
        user = unique("alice")
        async with upgraded(city.url, await city.session(user)) as raw:
            await city.done("traffic_cop.revoke_session", {"user_id": user})
            assert await raw.close_code() == 4501
            assert await raw.ended(3) == b""


class TestPlaces:
    async def test_beyond_its_capacity_an_instance_says_when_to_come_back(self, platform: Platform) -> None:
        city = await platform.start(max_connections=3)
        tokens = [await city.session(unique("alice")) for _ in range(5)]
        async with AsyncExitStack() as stack:
            held = [await stack.enter_async_context(city.connected(token)) for token in tokens[:3]]
            for token in tokens[3:]:
                with pytest.raises(ConnectionClosed) as refused:
                    async with connect(f"{city.ws_url}?session_token={token}") as socket:
                        await socket.recv()
                assert refused.value.rcvd is not None
                assert refused.value.rcvd.code == 1013
                assert refused.value.rcvd.reason.startswith("retry_after=")
                seconds = refused.value.rcvd.reason.removeprefix("retry_after=").split()[0].rstrip(";,")
                assert float(seconds) > 0
            assert (await city.http.get("/health/live")).status_code == 200
            for client in held:
                await client.nothing_but_pong()
            await held[0].socket.close()
            await eventually(lambda: connections(city), lambda count: count == 2, "a place is free")
            async with city.connected(tokens[4]) as late:
                await late.nothing_but_pong()

    async def test_a_user_has_so_many_connections_on_all_instances_together(self, platform: Platform) -> None:
        settings = {"max_connections_per_user": 3}
        here, there = await platform.start(**settings), await platform.start(**settings)
        alice = await here.session(unique("alice"))
        bob = await here.session(unique("bob"))
        async with AsyncExitStack() as stack:
            held = [await stack.enter_async_context(city.connected(alice)) for city in (here, there, here)]
            for city in (here, there):
                assert await close_code_of(city.ws_url, alice) == 4029
                await stack.enter_async_context(city.connected(bob))
            for client in held:
                await client.nothing_but_pong()
            await held[1].socket.close()

            async def comes_in() -> bool:
                try:
                    async with here.connected(alice):
                        return True
                except ConnectionClosed as refused:
                    assert refused.rcvd is not None
                    assert refused.rcvd.code == 4029
                    return False

            await eventually(comes_in, bool, "the place is free again")

    async def test_of_many_who_come_at_once_no_more_than_allowed_stay(self, platform: Platform) -> None:
        settings = {"max_connections_per_user": 5}
        cities = [await platform.start(**settings), await platform.start(**settings)]
        token = await cities[0].session(unique("alice"))
        all_tried, welcomed = asyncio.Event(), 0

        async def come(number: int) -> int:
            nonlocal welcomed
            try:
                async with cities[number % 2].connected(token):
                    welcomed += 1
                    await asyncio.wait_for(all_tried.wait(), PATIENCE)
                    return 0
            except ConnectionClosed as refused:
                return refused.rcvd.code if refused.rcvd else 1006

        coming = [asyncio.create_task(come(number)) for number in range(30)]
        refused = await eventually(
            number_of(coming), lambda count: count + welcomed == 30, "each was welcomed or refused", 10
        )
        all_tried.set()
        codes = await asyncio.gather(*coming)
        assert refused == 25
        assert sorted(codes) == [0] * 5 + [4029] * 25


def number_of(tasks: list[asyncio.Task[int]]) -> Any:
    async def look() -> int:
        return sum(task.done() for task in tasks)

    return look
