"""Any bytes at all, cut anyhow, do to a socket what they do to websockets' own protocol object, read octet by octet."""

from __future__ import annotations

import asyncio
import codecs
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.utils import apply_mask

from smart_city.post_office.gateway.intake import SLICE_BYTES
from smart_city.post_office.gateway.messages import wire, wire_binary
from smart_city.post_office.gateway.socket import Socket
from tests.contract.raw import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame
from tests.support.echo import EchoDoor
from tests.support.waiting import until

Told = list[tuple[int, bytes]]
"""What comes back: opcode and data of each frame; of a close its code alone."""

MOST = SLICE_BYTES + 1000
"""Larger than what is read without the protocol object."""


class Expected:
    """What a server says that echoes messages, by RFC 6455: the library judges frames, here they become messages."""

    def __init__(self, sent: bytes) -> None:
        self.told: Told = []
        self.pongs: list[bytes] = []
        self.outcome = int(CloseCode.ABNORMAL_CLOSURE)
        self._protocol = ServerProtocol(state=State.OPEN, max_size=MOST)
        self._opcode = Opcode.TEXT
        self._message = b""
        for octet in sent:
            self._protocol.receive_data(bytes([octet]))
            for event in self._protocol.events_received():
                assert isinstance(event, Frame)
                self._take(event)
            closed = self._protocol.close_rcvd or self._protocol.close_sent
            if closed is not None:
                self._close(closed.code)
            if self.told and self.told[-1][0] == CLOSE:
                break

    def _take(self, read: Frame) -> None:
        if read.opcode is Opcode.PONG:
            self.pongs.append(bytes(read.data))
        if read.opcode is Opcode.PING:
            self.told.append((PONG, bytes(read.data)))
        if read.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._opcode, self._message = read.opcode, b""
        if read.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._message += read.data
            if self._opcode is Opcode.TEXT and not _may_be_text(self._message, is_whole=read.fin):
                self._close(CloseCode.INVALID_DATA)
            elif read.fin:
                self.told.append((self._opcode, self._message))

    def _close(self, code: int) -> None:
        self.outcome = code
        said = b"" if code == CloseCode.NO_STATUS_RCVD else code.to_bytes(2, "big")
        self.told.append((CLOSE, said))


def _may_be_text(data: bytes, *, is_whole: bool) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, is_whole)
    except UnicodeDecodeError:
        return False
    return True


class Outcome:
    """Whoever a socket was admitted as: it gives back what it gets, and keeps how it ended."""

    def __init__(self, served: Socket) -> None:
        self._socket = served
        self.code = 0
        self.pongs: list[bytes] = []

    def received(self, data: bytes, is_text: bool) -> None:
        self._socket.outbox.send((wire if is_text else wire_binary)(data))

    def heard(self) -> None:
        """It lives."""

    def ponged(self, data: bytes) -> None:
        self.pongs.append(data)

    def lagging(self, is_lagging: bool) -> None:
        """It is read from without a pause."""

    def closed(self, code: int, reason: str) -> None:
        self.code = code


@asynccontextmanager
async def visited() -> AsyncIterator[tuple[Socket, Outcome, socket.socket]]:
    """A socket on a real connection, who listens to it, and the connection's other end."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    door = EchoDoor(MOST, 1 << 20)
    make = partial(Socket, door, door.sockets)
    transport, served = await asyncio.get_running_loop().create_connection(make, sock=ours)
    outcome = Outcome(served)
    served.admitted(outcome)
    try:
        yield served, outcome, theirs
    finally:
        transport.abort()
        theirs.close()


async def heard(end: socket.socket) -> Told:
    """Everything that comes until the other side ends."""
    loop, data = asyncio.get_running_loop(), bytearray()
    async with asyncio.timeout(5):
        while more := await loop.sock_recv(end, 65536):
            data += more
    return list(frames_of(bytes(data)))


async def said(pieces: Iterable[bytes]) -> tuple[Told, list[bytes], int]:
    """What a socket says to pieces that arrive one by one, then an end; the pongs that it took, and how it closed."""
    async with visited() as (served, outcome, theirs):
        hearing = asyncio.create_task(heard(theirs))
        for piece in pieces:
            if not served.transport.is_closing():
                served.data_received(piece)
        theirs.shutdown(socket.SHUT_WR)
        told = await hearing
        await until(lambda: outcome.code != 0, "it is closed")
        return told, outcome.pongs, outcome.code


def frames_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        size, start = data[1] & 0x7F, 2
        if size > 125:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start], "big")
        yield data[0] & 0x0F, data[start : start + min(size, 2 if data[0] & 0x0F == CLOSE else size)]
        data = data[start + size :]


def written(first: int, data: bytes, mask: bytes, form: int, claimed: int | None) -> bytes:
    """A frame as nobody should write one: any first octet, any of the forms of a length, and any length."""
    size = len(data) if claimed is None else claimed
    bit = 0x80 if mask else 0
    if form == 0 and size < 126:
        length = bytes([bit | size])
    elif form <= 1 and size < 1 << 16:
        length = bytes([bit | 126]) + size.to_bytes(2, "big")
    else:
        length = bytes([bit | 127]) + size.to_bytes(8, "big")
    return bytes([first]) + length + mask + (apply_mask(data, mask) if mask else data)


def often(usual: Iterable[Any], rare: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.sampled_from([*usual] * 4 + [None]).flatmap(lambda value: rare if value is None else st.just(value))


FIN = 0x80
firsts = often(
    [FIN | TEXT, FIN | TEXT, FIN | BINARY, TEXT, BINARY, CONTINUATION, FIN | CONTINUATION, FIN | PING, FIN | PONG],
    st.integers(0, 255),
)
texts = st.text(max_size=40).map(str.encode) | st.sampled_from(
    [b"", b"x" * 125, "κόσμε".encode() * 13, b"\xce", b"\xba", b"\xf4\x90", b"\xed\xa0\x80", b"\xff", b"\xce" * 130]
)
large = st.sampled_from([b"x" * SLICE_BYTES, b"x" * (SLICE_BYTES + 1), b"y" * (MOST + 1)])
closes = st.builds(
    lambda code, reason: code.to_bytes(2, "big") + reason,
    often([1000, 1001, 3000, 4999], st.integers(0, 65535)),
    texts,
)
masks = often([b"\0\0\0\0", b"\x01\x02\x03\xff"], st.binary(min_size=4, max_size=4) | st.just(b""))
claims = often([None], st.integers(0, 200) | st.sampled_from([MOST, MOST + 1, 1 << 63, (1 << 64) - 1]))
data_frames = st.builds(written, firsts, st.one_of(*[texts] * 12, large), masks, often([0], st.integers(0, 2)), claims)
close_frames = st.builds(
    written, st.just(FIN | CLOSE), closes | st.binary(max_size=1), masks, st.integers(0, 2), st.none()
)
streams = st.lists(st.one_of(*[data_frames] * 8, close_frames, st.binary(max_size=6)), max_size=12).map(b"".join)
END = frame(TEXT, bytes(16))
"""What stands half in a frame's head is judged when the rest of the head is here, and this is."""


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@given(sent=streams, places=st.lists(st.integers(0, 1 << 16), max_size=12), is_chopped=st.booleans())
@settings(max_examples=100)
def test_whatever_arrives_is_taken_as_octet_by_octet(
    runner: asyncio.Runner, sent: bytes, places: list[int], is_chopped: bool
) -> None:
    at = sorted({0, len(sent), *(place % (len(sent) + 1) for place in places)})
    pieces = [bytes([octet]) for octet in sent[:400]] if is_chopped else [sent[a:b] for a, b in pairwise(at)]
    pieces.append(END)
    expected = Expected(b"".join(pieces))
    assert runner.run(said(pieces)) == (expected.told, expected.pongs, expected.outcome)


async def test_what_was_said_before_the_other_side_ended_is_still_sent() -> None:
    """It says no more, and may listen."""
    async with visited() as (served, _, theirs):
        served.data_received(frame(TEXT, b"the last question"))
        served.eof_received()
        theirs.shutdown(socket.SHUT_WR)
        assert await heard(theirs) == [(TEXT, b"the last question")]
