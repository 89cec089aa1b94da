"""RFC 6455 below the frames of section 4: what peers that break it, flood it or go silent bring about."""

from __future__ import annotations

import asyncio
import json
import struct

import pytest

from tests.contract.raw import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Raw, frame, text, upgraded
from tests.support.platform import Instance, unique
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

PING_FRAME = json.dumps({"type": "ping", "id": "whole"}).encode()


async def pong(raw: Raw, name: str = "after") -> None:
    """Shows that the connection lives."""
    await raw.send(text({"type": "ping", "id": name}))
    assert await raw.json() == {"type": "pong", "id": name}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(BINARY, b"\x81\xa4type\xa4ping"), 1003),
        (frame(BINARY), 1003),
        (frame(BINARY, PING_FRAME), 1003),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b'{"type": "ping", "id": "\xc3\x28"}'), 1007),
        (frame(TEXT, b"\xed\xa0\x80"), 1007),
        (frame(TEXT, b"\xf4\x90\x80\x80"), 1007),
        (frame(TEXT, b"\xc0\x80"), 1007),
        (frame(TEXT, b'{"type": "ping"}\xe2\x82'), 1007),
        (frame(TEXT, b'{"type": ', fin=False) + frame(CONTINUATION, b'"\xff"}'), 1007),
        (frame(TEXT, PING_FRAME, reserved=4), 1002),
        (frame(TEXT, PING_FRAME, reserved=2), 1002),
        (frame(TEXT, PING_FRAME, reserved=1), 1002),
        (frame(3, b"x"), 1002),
        (frame(11, b"x"), 1002),
        (frame(CONTINUATION, PING_FRAME), 1002),
        (frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), 1002),
        (frame(PING, b"x", fin=False), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(CLOSE, b"x"), 1002),
        (frame(CLOSE, struct.pack("!H", 1005)), 1002),
        (frame(CLOSE, struct.pack("!H", 999)), 1002),
        (frame(CLOSE, struct.pack("!H", 1000) + b"\xff"), 1007),
        (frame(TEXT, PING_FRAME, masked=False), 1002),
        (bytes([0x81, 0xFF]) + struct.pack("!Q", 1 << 40), 1009),
        (bytes([0x81, 0xFF]) + struct.pack("!Q", (4 << 20) + 1), 1009),
    ],
    ids=lambda value: value[:16].hex() if isinstance(value, bytes) else str(value),
)
async def test_what_breaks_the_protocol_closes_with_its_code(town: Instance, data: bytes, code: int) -> None:
    async with upgraded(town.url, await town.session(unique("alice"))) as raw:
        await raw.send(data)
        assert await raw.close_code() == code
        await raw.ended()


async def test_a_length_with_its_first_bit_set_is_thrown_out(town: Instance) -> None:
    async with upgraded(town.url, await town.session(unique("alice"))) as raw:
        await raw.send(bytes([0x81, 0xFF]) + struct.pack("!Q", 1 << 63))
        assert await raw.close_code() in {1002, 1009}


async def test_fragments_that_add_up_above_the_limit_close_with_1009(town: Instance) -> None:
    async with upgraded(town.url, await town.session(unique("alice"))) as raw:
        await raw.send(frame(TEXT, b"x", fin=False))
        for _ in range(4):
            await raw.send(frame(CONTINUATION, b"x" * (1 << 20), fin=False))
        assert await raw.close_code() == 1009


async def test_a_message_in_fragments_is_one_message(town: Instance) -> None:
    async with upgraded(town.url, await town.session(unique("alice"))) as raw:
        pieces = [PING_FRAME[n : n + 1] for n in range(len(PING_FRAME))]
        await raw.send(frame(TEXT, pieces[0], fin=False))
        for piece in pieces[1:-1]:
            await raw.send(frame(CONTINUATION, piece, fin=False) + frame(CONTINUATION, b"", fin=False))
        await raw.send(frame(PING, b"between"))
        assert await raw.frame() == (PONG, b"between")
        await raw.send(frame(CONTINUATION, pieces[-1]))
        assert await raw.json() == {"type": "pong", "id": "whole"}


async def test_a_character_may_be_cut_by_a_fragment(town: Instance) -> None:
    whole = json.dumps({"type": "ping", "id": "😀"}, ensure_ascii=False).encode()
    cut = whole.index(b"\xf0") + 2
    async with upgraded(town.url, await town.session(unique("alice"))) as raw:
        await raw.send(frame(TEXT, whole[:cut], fin=False) + frame(CONTINUATION, whole[cut:]))
        assert await raw.json() == {"type": "pong", "id": "😀"}


async def test_frames_arrive_in_whatever_pieces_the_network_makes(town: Instance) -> None:
    data = b"".join(text({"type": "ping", "id": str(n)}) for n in range(20))
    async with upgraded(town.url, await town.session(unique("alice"))) as raw:
        for start in range(0, len(data), 3):
            await raw.send(data[start : start + 3])
            await asyncio.sleep(0)
        assert [(await raw.json())["id"] for _ in range(20)] == [str(n) for n in range(20)]


async def test_an_empty_text_frame_is_an_invalid_message(town: Instance) -> None:
    async with upgraded(town.url, await town.session(unique("alice"))) as raw:
        await raw.send(frame(TEXT) + frame(TEXT, fin=False) + frame(CONTINUATION))
        for _ in range(2):
            assert (await raw.json())["code"] == "invalid_message"
        await pong(raw)


@pytest.mark.parametrize("data", [b"", b"x", b"\xff" * 125])
async def test_a_protocol_level_ping_gets_its_data_back(town: Instance, data: bytes) -> None:
    async with upgraded(town.url, await town.session(unique("alice"))) as raw:
        await raw.send(frame(PING, data))
        assert await raw.frame() == (PONG, data)
        await raw.send(frame(PONG, b"nobody asked"))
        await pong(raw)


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4000])
async def test_a_close_is_answered_with_its_code(town: Instance, code: int) -> None:
    async with upgraded(town.url, await town.session(unique("alice"))) as raw:
        await raw.send(frame(CLOSE, struct.pack("!H", code) + b"bye"))
        assert await raw.close_code() == code
        assert await raw.ended() == b""


async def test_a_close_without_a_code_is_answered(town: Instance) -> None:
    async with upgraded(town.url, await town.session(unique("alice"))) as raw:
        await raw.send(frame(CLOSE))
        assert await raw.close_code() in {1000, 1005}


async def test_what_stands_before_a_close_is_still_done(town: Instance, channel: str) -> None:
    """One write with messages and, right behind them, the close: they were sent, so they count."""
    async with upgraded(town.url, await town.session(unique("alice"))) as raw:
        messages = b"".join(text({"channel": channel, "payload": {"n": n}, "key": f"k{n}"}) for n in range(20))
        await raw.send(messages + frame(CLOSE, struct.pack("!H", 1000)))
        assert await raw.close_code() == 1000

    async def is_all_there() -> bool:
        status = await town.done("post_office.get_queue_status", {"channel": channel})
        return bool(status["channels"][channel]["depth"] == 20)

    await eventually(is_all_there, "all of it is in the inbox")


@pytest.mark.parametrize("count", [300, 2000])
async def test_much_that_stands_before_a_close_is_still_done(town: Instance, channel: str, count: int) -> None:
    token = await town.service(unique("writer"), "post_office.publish")
    async with upgraded(town.url, token) as raw:
        frames = (text({"type": "publish", "channel": channel, "payload": {"n": n}}) for n in range(count))
        await raw.send(b"".join(frames) + frame(CLOSE, struct.pack("!H", 1000)))
        assert await raw.close_code() == 1000

    async def is_all_there() -> bool:
        history = await town.done("post_office.get_channel_history", {"channel": channel, "limit": 1})
        return bool(history["offset"] == count)

    await eventually(is_all_there, "all of it is in the log")


async def test_what_stands_behind_a_close_is_not_done(town: Instance, channel: str) -> None:
    async with upgraded(town.url, await town.session(unique("alice"))) as raw:
        await raw.send(frame(CLOSE, struct.pack("!H", 1000)) + text({"channel": channel, "payload": {}}))
        await raw.ended()
    status = await town.done("post_office.get_queue_status", {"channel": channel})
    assert status["channels"][channel]["depth"] == 0


async def test_acknowledged_before_the_client_closes_is_answered_or_kept(town: Instance, channel: str) -> None:
    async with upgraded(town.url, await town.session(unique("alice"))) as raw:
        sent = b"".join(text({"channel": channel, "payload": {"n": n}, "id": str(n)}) for n in range(50))
        await raw.send(sent)
        acknowledged = [await raw.json() for _ in range(10)]
        raw.writer.transport.abort()
    assert [ack["status"] for ack in acknowledged] == ["queued"] * 10
    status = await town.done("post_office.get_queue_status", {"channel": channel})
    assert 10 <= status["channels"][channel]["depth"] <= 50


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 4096,
        b"\xff" * 4096,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 20,
        bytes(range(256)) * 16,
        b"\x16\x03\x01",
    ],
    ids=lambda garbage: garbage[:4].hex(),
)
async def test_garbage_bytes_end_one_connection_and_nothing_else(town: Instance, garbage: bytes) -> None:
    token = await town.session(unique("alice"))
    async with town.connected(token) as bystander, upgraded(town.url, token) as raw:
        await raw.send(garbage)
        raw.writer.write_eof()
        await raw.ended()
        await bystander.nothing_but_pong()
