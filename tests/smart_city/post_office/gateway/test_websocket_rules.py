"""The rules of RFC 6455 on the wire, by the groups of the Autobahn test suite: 1 to 7, 9 and 10.

The gateway's socket is an echo here, and what is sent to it are bytes that a test has put together. Compression (12
and 13) is not offered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from tests.contract.raw import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Raw, dialled, frame, upgrade
from tests.support.echo import echoing
from tests.support.waiting import PATIENCE

NORMAL, PROTOCOL_ERROR, NO_UTF8, TOO_BIG = 1000, 1002, 1007, 1009
HELLO = frame(TEXT, b"hello")
KOSME = "κόσμε"


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def fragments(opcode: int, parts: list[bytes]) -> bytes:
    """A message in as many frames as there are parts."""
    last = len(parts) - 1
    return b"".join(
        frame(opcode if index == 0 else CONTINUATION, part, fin=index == last) for index, part in enumerate(parts)
    )


@asynccontextmanager
async def echo(**limits: int) -> AsyncIterator[Raw]:
    async with echoing(**limits) as port, dialled(f"http://127.0.0.1:{port}") as raw:
        await raw.send(upgrade())
        status, _, _ = await raw.response()
        assert status == 101
        yield raw


async def send(raw: Raw, data: bytes, chop: int = 0) -> None:
    """Sends bytes at once, or in pieces that arrive one by one."""
    for piece in pieces(data, chop) if chop else [data]:
        await raw.send(piece)
        if chop:
            await asyncio.sleep(0)


async def echoed(raw: Raw, opcode: int, data: bytes) -> None:
    assert await raw.frame(20) == (opcode, data)


async def failed(raw: Raw, code: int) -> None:
    """The server has closed with this code, and ended the connection."""
    assert await raw.close_code() == code
    assert await raw.ended() == b""


async def left(raw: Raw) -> None:
    """The connection is whole, and ends as one does."""
    await raw.send(close(NORMAL))
    assert await raw.frame() == (CLOSE, NORMAL.to_bytes(2, "big"))
    assert await raw.ended() == b""


SIZES = [0, 1, 125, 126, 127, 128, 65535, 65536]


class TestFraming:
    """Autobahn 1."""

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    @pytest.mark.parametrize("size", SIZES)
    async def test_a_message_of_every_kind_of_length(self, opcode: int, size: int) -> None:
        async with echo() as raw:
            await send(raw, frame(opcode, b"*" * size))
            await echoed(raw, opcode, b"*" * size)
            await left(raw)

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    async def test_a_message_that_arrives_in_pieces(self, opcode: int) -> None:
        async with echo() as raw:
            await send(raw, frame(opcode, b"*" * 65536), chop=997)
            await echoed(raw, opcode, b"*" * 65536)
            await left(raw)

    async def test_a_frame_without_a_mask_is_an_error(self) -> None:
        async with echo() as raw:
            await send(raw, frame(TEXT, b"hello", masked=False))
            await failed(raw, PROTOCOL_ERROR)


class TestPings:
    """Autobahn 2."""

    async def test_a_ping_of_every_length_is_answered_with_its_data(self) -> None:
        async with echo() as raw:
            for size in range(126):
                data = bytes(range(256))[-size:] if size else b""
                await send(raw, frame(PING, data))
                await echoed(raw, PONG, data)
            await left(raw)

    async def test_a_ping_octet_by_octet(self) -> None:
        async with echo() as raw:
            await send(raw, frame(PING, b"\xfe" * 125), chop=1)
            await echoed(raw, PONG, b"\xfe" * 125)
            await left(raw)

    async def test_a_ping_that_is_too_long_is_an_error(self) -> None:
        async with echo() as raw:
            await send(raw, frame(PING, b"\xfe" * 126))
            await failed(raw, PROTOCOL_ERROR)

    async def test_pongs_that_nobody_asked_for_are_passed_over(self) -> None:
        async with echo() as raw:
            await send(raw, frame(PONG) + frame(PONG, b"unsolicited") + frame(PING, b"ping"))
            await echoed(raw, PONG, b"ping")
            await left(raw)

    @pytest.mark.parametrize("chop", [0, 1])
    async def test_pings_are_answered_in_their_order(self, chop: int) -> None:
        async with echo() as raw:
            await send(raw, b"".join(frame(PING, b"%d" % number) for number in range(10)), chop)
            for number in range(10):
                await echoed(raw, PONG, b"%d" % number)
            await left(raw)

    async def test_who_pings_and_takes_no_answer_is_cut_off(self) -> None:
        """Not among the rules: pongs that wait for a peer count as all else that waits for it."""
        async with echo(max_unsent_bytes=1 << 16) as raw:
            raw.stop_reading()
            with pytest.raises(ConnectionError):
                async with asyncio.timeout(PATIENCE):
                    while True:
                        await raw.send(frame(PING, b"x" * 125) * 500)


class TestReservedBits:
    """Autobahn 3."""

    @pytest.mark.parametrize("bits", range(1, 8))
    @pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, CLOSE])
    async def test_a_reserved_bit_is_an_error(self, bits: int, opcode: int) -> None:
        async with echo() as raw:
            data = NORMAL.to_bytes(2, "big") if opcode == CLOSE else b"*"
            await send(raw, HELLO + frame(opcode, data, reserved=bits) + frame(PING))
            await echoed(raw, TEXT, b"hello")
            await failed(raw, PROTOCOL_ERROR)

    async def test_a_reserved_bit_octet_by_octet(self) -> None:
        async with echo() as raw:
            await send(raw, HELLO + frame(TEXT, b"*", reserved=4), chop=1)
            await echoed(raw, TEXT, b"hello")
            await failed(raw, PROTOCOL_ERROR)


class TestReservedOpcodes:
    """Autobahn 4."""

    @pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
    @pytest.mark.parametrize("data", [b"", b"payload"])
    async def test_a_reserved_opcode_is_an_error(self, opcode: int, data: bytes) -> None:
        async with echo() as raw:
            await send(raw, HELLO + frame(opcode, data) + frame(PING))
            await echoed(raw, TEXT, b"hello")
            await failed(raw, PROTOCOL_ERROR)


class TestFragmentation:
    """Autobahn 5."""

    @pytest.mark.parametrize("opcode", [PING, PONG])
    async def test_a_control_frame_in_fragments_is_an_error(self, opcode: int) -> None:
        async with echo() as raw:
            await send(raw, fragments(opcode, [b"frag", b"ment"]))
            await failed(raw, PROTOCOL_ERROR)

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    @pytest.mark.parametrize("chop", [0, 1])
    @pytest.mark.parametrize("parts", [[b"a", b"b"], [b"", b"ab"], [b"a", b"", b"b"], [b"", b"", b""]])
    async def test_fragments_are_one_message(self, opcode: int, chop: int, parts: list[bytes]) -> None:
        async with echo() as raw:
            await send(raw, fragments(opcode, parts), chop)
            await echoed(raw, opcode, b"".join(parts))
            await left(raw)

    @pytest.mark.parametrize("chop", [0, 1])
    async def test_a_ping_between_fragments_is_answered_at_once(self, chop: int) -> None:
        async with echo() as raw:
            await send(raw, frame(TEXT, b"frag", fin=False) + frame(PING, b"ping"), chop)
            await echoed(raw, PONG, b"ping")
            await send(raw, frame(CONTINUATION, b"-", fin=False) + frame(PING), chop)
            await echoed(raw, PONG, b"")
            await send(raw, frame(CONTINUATION, b"ment"), chop)
            await echoed(raw, TEXT, b"frag-ment")
            await left(raw)

    async def test_a_ping_between_fragments_is_answered_before_the_message_however_they_arrive(self) -> None:
        async with echo() as raw:
            await send(
                raw, HELLO + frame(TEXT, b"frag", fin=False) + frame(PING, b"ping") + frame(CONTINUATION, b"ment")
            )
            await echoed(raw, TEXT, b"hello")
            await echoed(raw, PONG, b"ping")
            await echoed(raw, TEXT, b"fragment")
            await left(raw)

    @pytest.mark.parametrize("is_last", [True, False])
    @pytest.mark.parametrize("before", [b"", HELLO])
    async def test_a_continuation_of_nothing_is_an_error(self, is_last: bool, before: bytes) -> None:
        async with echo() as raw:
            await send(raw, before + frame(CONTINUATION, b"more", fin=is_last) + HELLO)
            if before:
                await echoed(raw, TEXT, b"hello")
            await failed(raw, PROTOCOL_ERROR)

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    async def test_a_new_message_before_the_end_of_the_last_is_an_error(self, opcode: int) -> None:
        async with echo() as raw:
            await send(raw, frame(TEXT, b"frag", fin=False) + frame(opcode, b"new"))
            await failed(raw, PROTOCOL_ERROR)

    async def test_messages_in_fragments_one_after_the_other(self) -> None:
        async with echo() as raw:
            for number in range(5):
                await send(raw, fragments(TEXT, [b"%d" % number] * 5))
                await echoed(raw, TEXT, b"%d" % number * 5)
            await left(raw)


VALID = [
    KOSME, "\u0000", "\u0080", "\u0800", "\U00010000", "\u007f", "\u07ff", "\uffff", "\ud7ff", "\ue000", "\ufffd",
    "\U0010ffff", "\ufffe", "\U0001fffe", "\U0010fffe", "Hello-µ@ßöäüàá-UTF-8!!", "",
]  # fmt: skip
BROKEN = [
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
    b"\xf8\x88\x80\x80\x80",
    b"\xfc\x84\x80\x80\x80\x80",
    b"\xf4\x90\x80\x80",
    b"\xf7\xbf\xbf\xbf",
    b"\x80",
    b"\xbf",
    b"\x80\xbf\x80",
    b"\xc0 ",
    b"\xe0 ",
    b"\xf0 ",
    b"\xfe",
    b"\xff",
    b"\xfe\xfe\xff\xff",
    b"\xc0\xaf",
    b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf",
    b"\xc1\xbf",
    b"\xe0\x9f\xbf",
    b"\xf0\x8f\xbf\xbf",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xed\xa0\x80\xed\xb0\x80",
]
"""Sequences that are not UTF-8 whatever follows."""
CUT = [b"\xce", b"\xe1\xbd", b"\xf0\x90\x80", KOSME.encode()[:-1]]
"""Text that ends within a character."""


class TestText:
    """Autobahn 6."""

    @pytest.mark.parametrize("text", VALID)
    async def test_text_whole_and_octet_by_octet(self, text: str) -> None:
        data = text.encode()
        octets = [data[at : at + 1] for at in range(len(data))] or [b""]
        async with echo() as raw:
            for message in (frame(TEXT, data), fragments(TEXT, octets), fragments(TEXT, [b"", data, b""])):
                await send(raw, message)
                await echoed(raw, TEXT, data)
            await left(raw)

    @pytest.mark.parametrize("data", BROKEN + CUT)
    async def test_text_that_is_not_utf8_is_an_error(self, data: bytes) -> None:
        async with echo() as raw:
            await send(raw, frame(TEXT, b"text " + data))
            await failed(raw, NO_UTF8)

    @pytest.mark.parametrize("data", BROKEN + CUT)
    async def test_and_so_it_is_octet_by_octet(self, data: bytes) -> None:
        async with echo() as raw:
            await send(raw, fragments(TEXT, [data[at : at + 1] for at in range(len(data))]))
            await failed(raw, NO_UTF8)

    @pytest.mark.parametrize("data", BROKEN)
    async def test_what_cannot_become_utf8_fails_before_the_message_ends(self, data: bytes) -> None:
        async with echo() as raw:
            await send(raw, frame(TEXT, KOSME.encode(), fin=False) + frame(CONTINUATION, data, fin=False))
            await failed(raw, NO_UTF8)

    @pytest.mark.parametrize("data", BROKEN + CUT)
    async def test_binary_messages_may_hold_anything(self, data: bytes) -> None:
        async with echo() as raw:
            await send(raw, frame(BINARY, data) + fragments(BINARY, [data[:1], data[1:]]))
            await echoed(raw, BINARY, data)
            await echoed(raw, BINARY, data)
            await left(raw)


GOOD_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4501, 4999]
BAD_CODES = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


class TestClosing:
    """Autobahn 7."""

    @pytest.mark.parametrize("code", GOOD_CODES)
    async def test_a_close_is_answered_with_its_code(self, code: int) -> None:
        async with echo() as raw:
            await send(raw, HELLO + close(code, b"reason"))
            await echoed(raw, TEXT, b"hello")
            assert await raw.close_code() == code
            assert await raw.ended() == b""

    @pytest.mark.parametrize("code", BAD_CODES)
    @pytest.mark.parametrize("reason", [b"", b"reason"])
    async def test_a_code_that_nobody_may_send_is_an_error(self, code: int, reason: bytes) -> None:
        async with echo() as raw:
            await send(raw, close(code, reason))
            await failed(raw, PROTOCOL_ERROR)

    async def test_a_close_without_a_code_is_answered_without_one(self) -> None:
        async with echo() as raw:
            await send(raw, frame(CLOSE))
            assert await raw.frame() == (CLOSE, b"")
            assert await raw.ended() == b""

    @pytest.mark.parametrize("data", [b"\x03", NORMAL.to_bytes(2, "big") + b"*" * 124])
    async def test_a_close_of_one_octet_or_too_many_is_an_error(self, data: bytes) -> None:
        async with echo() as raw:
            await send(raw, frame(CLOSE, data))
            await failed(raw, PROTOCOL_ERROR)

    async def test_a_reason_may_be_as_long_as_a_control_frame(self) -> None:
        async with echo() as raw:
            await send(raw, close(NORMAL, b"*" * 123))
            assert await raw.close_code() == NORMAL

    @pytest.mark.parametrize("data", BROKEN + CUT)
    async def test_a_reason_is_utf8(self, data: bytes) -> None:
        async with echo() as raw:
            await send(raw, close(NORMAL, data))
            await failed(raw, NO_UTF8)

    @pytest.mark.parametrize("after", [HELLO, frame(PING, b"ping"), close(NORMAL), frame(TEXT, b"\xff")])
    async def test_what_comes_after_a_close_is_passed_over(self, after: bytes) -> None:
        async with echo() as raw:
            await send(raw, close(NORMAL) + after)
            assert await raw.frame() == (CLOSE, NORMAL.to_bytes(2, "big"))
            assert await raw.ended() == b""

    @pytest.mark.parametrize("data", [b"", NORMAL.to_bytes(2, "big"), NORMAL.to_bytes(2, "big") + b"reason"])
    @pytest.mark.parametrize("chop", [0, 1])
    async def test_a_message_that_a_close_cuts_short_is_no_message_and_no_error(self, data: bytes, chop: int) -> None:
        async with echo() as raw:
            cut_short = frame(TEXT, b"frag", fin=False) + frame(PING, b"ping") + frame(CLOSE, data)
            await send(raw, HELLO + cut_short + (b"" if chop else frame(CONTINUATION, b"ment")), chop)
            await echoed(raw, TEXT, b"hello")
            await echoed(raw, PONG, b"ping")
            assert await raw.frame() == (CLOSE, data)
            assert await raw.ended() == b""

    async def test_an_error_after_a_ping_ends_what_was_to_be_said(self) -> None:
        async with echo() as raw:
            await send(raw, frame(PING, b"1") + frame(TEXT, b"\xff") + frame(PING, b"2") + HELLO)
            await echoed(raw, PONG, b"1")
            await failed(raw, NO_UTF8)

    async def test_a_large_message_before_a_close_is_echoed(self) -> None:
        async with echo() as raw:
            await send(raw, frame(TEXT, b"*" * (256 << 10)) + close(NORMAL))
            await echoed(raw, TEXT, b"*" * (256 << 10))
            assert await raw.close_code() == NORMAL


class TestLimits:
    """Autobahn 9 and 10."""

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    @pytest.mark.parametrize("size", [64 << 10, 256 << 10, 1 << 20, 4 << 20, 8 << 20, 16 << 20])
    async def test_a_large_message_in_one_frame(self, opcode: int, size: int) -> None:
        async with echo() as raw:
            await raw.send(frame(opcode, b"*" * size), 20)
            await echoed(raw, opcode, b"*" * size)
            await left(raw)

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    @pytest.mark.parametrize(
        ("size", "fragment"),
        [(1 << 20, 64), (4 << 20, 1 << 10), (4 << 20, 64 << 10), (16 << 20, 1 << 20), (65536, 1300)],
    )
    async def test_a_large_message_in_fragments(self, opcode: int, size: int, fragment: int) -> None:
        data = ("é" * (size // 2)).encode()
        async with echo() as raw:
            await raw.send(fragments(opcode, list(pieces(data, fragment))), 20)
            await echoed(raw, opcode, data)
            await left(raw)

    @pytest.mark.parametrize("chop", [64, 512, 2048])
    async def test_a_large_message_that_arrives_in_small_pieces(self, chop: int) -> None:
        async with echo() as raw:
            await send(raw, frame(TEXT, b"*" * (256 << 10)), chop)
            await echoed(raw, TEXT, b"*" * (256 << 10))
            await left(raw)

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    @pytest.mark.parametrize("size", [0, 16, 1024, 16 << 10])
    async def test_many_messages_there_and_back(self, opcode: int, size: int) -> None:
        async with echo() as raw:
            for _ in range(200):
                await send(raw, frame(opcode, b"*" * size))
                await echoed(raw, opcode, b"*" * size)
            await left(raw)

    @pytest.mark.parametrize("message", [frame(TEXT, b"*" * 1025), fragments(BINARY, [b"*" * 1024, b"*"])])
    async def test_one_octet_above_the_limit_closes(self, message: bytes) -> None:
        async with echo(max_message_bytes=1024) as raw:
            await send(raw, frame(TEXT, b"*" * 1024) + message)
            await echoed(raw, TEXT, b"*" * 1024)
            await failed(raw, TOO_BIG)
