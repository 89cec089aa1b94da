"""Any bytes at all, cut anyhow, do to a socket what they do to websockets' own protocol object, read octet by octet."""

from __future__ import annotations

import asyncio
import codecs
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise, product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from smart_city.post_office.gateway.intake import SLICE_BYTES
from smart_city.post_office.gateway.masking import apply_mask
from smart_city.post_office.gateway.messages import wire, wire_binary
from smart_city.post_office.gateway.socket import Socket
from tests.contract.raw import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame
from tests.support.echo import EchoDoor
from tests.support.waiting import PATIENCE, until

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
async def visited(door: EchoDoor) -> AsyncIterator[tuple[Socket, Outcome, socket.socket]]:
    """A socket on a real connection, who listens to it, and the connection's other end."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
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
    async with asyncio.timeout(PATIENCE):
        while more := await loop.sock_recv(end, 65536):
            data += more
    return list(frames_of(bytes(data)))


async def said(pieces: Iterable[bytes]) -> list[tuple[Told, list[bytes], int]]:
    """What two sockets say to the same pieces, which arrive now here, now there, and then an end.

    Of each what comes back, the pongs that it took, and the code that it closed with.
    """
    door = EchoDoor(MOST, 1 << 20)
    async with visited(door) as one, visited(door) as other:
        hearing = [asyncio.create_task(heard(theirs)) for _, _, theirs in (one, other)]
        for piece, (served, _, _) in product(pieces, (one, other)):
            if not served.transport.is_closing():
                served.data_received(piece)
        for _, _, theirs in (one, other):
            theirs.shutdown(socket.SHUT_WR)
        told = await asyncio.gather(*hearing)
        await until(lambda: bool(one[1].code and other[1].code), "both are closed")
        return [(said, outcome.pongs, outcome.code) for said, (_, outcome, _) in zip(told, (one, other), strict=True)]


def frames_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        size, start = data[1] & 0x7F, 2
        if size > 125:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start], "big")
        yield data[0] & 0x0F, data[start : start + min(size, 2 if data[0] & 0x0F == CLOSE else size)]
        data = data[start + size :]


def written(first: int, data: bytes, mask: bytes = b"mask", form: int = 0, claimed: int | None = None) -> bytes:
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


def in_fragments(opcode: int, data: bytes, places: list[int], between: bytes) -> bytes:
    """A message in as many frames as there are places and one, with something else between any two of them."""
    at = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    parts = [data[start:end] for start, end in pairwise(at)]
    firsts = [opcode, *[CONTINUATION] * (len(parts) - 2), FIN | CONTINUATION]
    return between.join(written(first, part) for first, part in zip(firsts, parts, strict=True))


FIN = 0x80
KOSME = "κόσμε".encode()
BEGUN = written(TEXT, b"be")
masks = st.binary(min_size=4, max_size=4)
forms = st.sampled_from([0, 0, 0, 1, 2])
texts = st.sampled_from([b"", b"hello", KOSME, b"x" * 125, KOSME * 13]) | st.text(max_size=30).map(str.encode)
others = st.sampled_from(
    [b"\xce", b"\xf4\x90", b"\xed\xa0\x80", b"\xff", b"\xce" * 130, b"o" * 126, b"\x03\xe8bye", b"\x03\xe8\xff"]
)
large = st.sampled_from([b"x" * SLICE_BYTES, b"x" * (SLICE_BYTES + 1), b"y" * (MOST + 1)])
controls = st.builds(
    written, st.sampled_from([FIN | PING, FIN | PONG]), st.sampled_from([b"", b"12", b"p" * 125]), masks
)
whole = st.builds(written, st.sampled_from([FIN | TEXT, FIN | BINARY]), st.one_of(*[texts] * 12, large), masks, forms)
fragmented = st.builds(
    in_fragments, st.sampled_from([TEXT, BINARY]), texts | others,
    st.lists(st.integers(0, 200), min_size=1, max_size=3), st.just(b"") | controls,
)  # fmt: skip
fine = st.lists(whole | controls | fragmented, max_size=4).map(b"".join)

firsts = st.sampled_from([FIN | CLOSE, FIN | PONG, FIN | TEXT, FIN | CONTINUATION, TEXT, 0xC1, 0x92]) | st.integers(
    0, 255
)
sizes = st.sampled_from([None] * 8 + [0, 125, 126, MOST, MOST + 1, 1 << 63, (1 << 64) - 1])
odd = st.builds(written, firsts, texts | others | st.binary(max_size=3), masks | st.just(b""), forms, sizes)
begun = st.just(b"") | texts.map(partial(written, TEXT)) | st.just(BEGUN + written(FIN | PING, b""))
streams = st.tuples(fine, begun, st.just(b"") | odd | st.binary(max_size=6), fine).map(b"".join)
END = frame(TEXT, bytes(16))
"""What stands half in a frame's head is judged when the rest of the head is here, and this is."""


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@given(sent=streams, places=st.lists(st.integers(0, 1 << 16), max_size=12), is_chopped=st.booleans())
@example(sent=written(0xC1, b"a reserved bit"), places=[], is_chopped=False)
@example(sent=written(FIN | PONG, b"p" * 126), places=[], is_chopped=False)
@example(sent=BEGUN + written(FIN | PING, b"") + written(FIN | TEXT, b"misplaced"), places=[], is_chopped=False)
@example(sent=BEGUN + written(FIN | CLOSE, b"\x03\xe8bye"), places=[], is_chopped=False)
@settings(max_examples=80)
def test_whatever_arrives_is_taken_as_octet_by_octet(
    runner: asyncio.Runner, sent: bytes, places: list[int], is_chopped: bool
) -> None:
    at = sorted({0, len(sent), *(place % (len(sent) + 1) for place in places)})
    pieces = [bytes([octet]) for octet in sent[:400]] if is_chopped else [sent[a:b] for a, b in pairwise(at)]
    pieces.append(END)
    expected = Expected(b"".join(pieces))
    assert runner.run(said(pieces)) == [(expected.told, expected.pongs, expected.outcome)] * 2


async def test_what_was_said_before_the_other_side_ended_is_still_sent() -> None:
    """It says no more, and may listen."""
    async with visited(EchoDoor(MOST, 1 << 20)) as (served, _, theirs):
        served.data_received(frame(TEXT, b"the last question"))
        served.eof_received()
        theirs.shutdown(socket.SHUT_WR)
        assert await heard(theirs) == [(TEXT, b"the last question")]
