"""One WebSocket after its upgrade: bytes in, whole messages out, around websockets' sans-I/O `ServerProtocol`.

It does the protocol's duties (RFC 6455: fragments, UTF-8, control frames, the closing handshake) and nothing of
the city's: messages go to whoever `admitted` the socket. Outgoing data frames bypass the protocol object, since
they are shared between connections; incoming ones that are a whole message do, since it is slow with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from typing import cast

from websockets.frames import CloseCode, Frame
from websockets.http11 import Request
from websockets.protocol import SEND_EOF, State
from websockets.server import ServerProtocol

from smart_city.post_office.gateway.control import answers_to
from smart_city.post_office.gateway.door import Door, Listener
from smart_city.post_office.gateway.fragments import BINARY, CONTINUATION, PING, TEXT, Fragments
from smart_city.post_office.gateway.intake import SLICE_BYTES, Intake
from smart_city.post_office.gateway.outbox import Outbox, TranslatingOutbox
from smart_city.post_office.gateway.whole_frames import Pong, WholeFrames


class Socket(asyncio.Protocol):
    """The asyncio protocol of one WebSocket upgrade. Of the ``open_sockets`` each is shut down at a drain."""

    __slots__ = (
        "_asked", "_closing", "_door", "_fragments", "_has_failed", "_intake", "_listener", "_open_sockets", "_reader",
        "_waiting", "_whole_frames", "address", "is_closing", "is_packed", "outbox", "transport",
    )  # fmt: skip

    def __init__(self, door: Door, open_sockets: set[Socket]) -> None:
        self._door = door
        self._open_sockets = open_sockets
        self._reader: ServerProtocol | None = None
        """Lent for as long as a frame is on its way, and from the closing on."""
        self._whole_frames = WholeFrames(min(door.max_message_bytes, SLICE_BYTES))
        self._fragments: Fragments | None = None
        self._listener: Listener | None = None
        self._waiting: Sequence[tuple[bytes, bool]] = ()
        self._closing: asyncio.TimerHandle | None = None
        self._asked: tuple[int, str] | None = None
        self._has_failed = False
        self.is_closing = False
        self.is_packed = False
        """Whether MessagePack in binary messages was agreed on, instead of JSON in text."""
        self.address = ""
        """Where the client is: the transport's other end, unless its door knows better; empty on a Unix socket."""

    # The transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.address = peer[0] if isinstance(peer, tuple) else ""
        self.outbox = self._new_outbox(Outbox)
        self._intake = Intake(self.transport, self)
        self._open_sockets.add(self)

    def upgraded(self, request: Request) -> None:
        """Answers the request, which an HTTP server has read; what follows are frames."""
        answer = self._door.handshakes.answer(request)
        if answer.is_packed:
            self.is_packed = True
            self.outbox = self._new_outbox(partial(TranslatingOutbox, self._door.pack))
        self.transport.write(answer.response)
        if not answer.is_accepted:
            self.transport.close()
            return
        self._door.arrived(self, request)

    def data_received(self, data: bytes) -> None:
        if self._listener is not None:
            self._listener.heard()
        self._intake.take(data)

    def feed(self, data: bytes) -> int:
        """Takes a slice of what arrived, and says how many frames were in it."""
        pieces = self._whole_frames.split(data)
        for piece in pieces:
            if isinstance(piece, bytes):
                self._hear(piece)
            elif self.is_closing or self._has_failed:
                continue
            elif not isinstance(piece, Pong):
                self._take(*piece)
            elif self._listener is not None:
                self._listener.ponged(piece.data)
        if self._reader is not None and self._whole_frames.is_between and self._reader.state is State.OPEN:
            self._door.readers.give_back(self._reader)
            self._reader = None
        return len(pieces)

    def _hear(self, data: bytes) -> None:
        """Lets the protocol read."""
        reader = self._lent()
        answers = answers_to(reader, data)
        for frame in cast(list[Frame], reader.events_received()):
            if frame.opcode is PING:
                self._pong(answers.pop(0))
            elif not (self.is_closing or self._has_failed):
                self._frame(frame)
        if answers:
            self._answer(reader, answers)

    def eof_received(self) -> None:
        if self._reader is None:
            self.outbox.write()
            self.outbox.shut()  # between two frames there is nothing to say; the transport closes itself
        else:
            self._reader.receive_eof()
            self._answer(self._reader)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closing = True
        self._open_sockets.discard(self)
        self._intake.stop()
        if self._closing is not None:
            self._closing.cancel()
        self.outbox.shut()
        if self._listener is not None:
            code, reason = self._outcome()
            self._listener.closed(code, reason)

    def pause_writing(self) -> None:
        self.outbox.pause()

    def resume_writing(self) -> None:
        self.outbox.resume()

    def shutdown(self) -> None:
        """The instance drains."""
        self.close(CloseCode.SERVICE_RESTART, "this instance is draining; reconnect now")

    # The outbox's side

    def lagging(self, is_lagging: bool) -> None:
        if self._listener is not None:
            self._listener.lagging(is_lagging)

    def full(self, is_full: bool) -> None:
        self._intake.full(is_full)

    def stalled(self) -> None:
        self._door.too_slow(self)

    # The city's side

    def admitted(self, listener: Listener) -> None:
        """From now on messages go to ``listener``, beginning with those that came during the admission."""
        self._listener = listener
        self.resume_reading()
        waiting, self._waiting = self._waiting, ()
        for data, is_text in waiting:
            listener.received(data, is_text)

    def close(self, code: int, reason: str = "") -> None:
        """Sends what is queued, then begins the closing handshake; a peer that does not end it is cut off."""
        if not self._is_open:
            return
        self._asked = (code, reason)
        self.outbox.write()
        reader = self._lent()
        reader.send_close(code, reason.encode()[:123].decode(errors="ignore"))
        self._answer(reader)

    def fail(self, code: int, reason: str) -> None:
        """Ends the connection at once, since the peer broke the protocol: it is not waited for (RFC 6455, 7.1.7)."""
        if self._is_open:
            self._has_failed = True
            reader = self._lent()
            reader.fail(code, reason)
            self._answer(reader)

    def pause_reading(self) -> None:
        """Takes nothing more from the peer until `resume_reading`."""
        self._intake.pause()

    def resume_reading(self) -> None:
        """Takes from the peer again, beginning with what is here already."""
        self._intake.resume()

    def ping(self, data: bytes) -> None:
        """A protocol-level ping, after what is queued; its pong brings ``data`` back."""
        if self._is_open:
            self.outbox.send_as_is(_ping(data))

    # Between the two

    @property
    def _is_open(self) -> bool:
        if self.is_closing or self.transport.is_closing():
            return False
        return self._reader is None or self._reader.state is State.OPEN

    def _lent(self) -> ServerProtocol:
        """The protocol object, from here on this connection's own until it stands between two frames again."""
        if self._reader is None:
            self._reader = self._door.readers.lend()
        return self._reader

    def _new_outbox(self, kind: Callable[..., Outbox]) -> Outbox:
        return kind(self.transport, self._door.round, self, self._door.patience)

    def _frame(self, frame: Frame) -> None:
        """Takes a frame that the protocol has read."""
        if frame.opcode in (TEXT, BINARY) and frame.fin:
            self._take(bytes(frame.data), frame.opcode is TEXT)
        elif frame.opcode in (TEXT, BINARY, CONTINUATION):
            self._join(frame)

    def _join(self, fragment: Frame) -> None:
        try:
            if self._fragments is None:
                self._fragments = Fragments(fragment)
            elif (whole := self._fragments.go_on(fragment)) is not None:
                self._fragments = None
                self._message(*whole)
        except UnicodeDecodeError:
            self._fail_text()

    def _take(self, data: bytes, is_text: bool) -> None:
        """Takes a whole message."""
        if is_text and not data.isascii():
            try:
                data.decode()
            except UnicodeDecodeError:
                return self._fail_text()
        return self._message(data, is_text)

    def _fail_text(self) -> None:
        self.fail(CloseCode.INVALID_DATA, "a text message must be UTF-8")

    def _message(self, data: bytes, is_text: bool) -> None:
        if self._listener is not None:
            self._listener.received(data, is_text)
        else:
            self._waiting = (*self._waiting, (data, is_text))
            self.pause_reading()  # until the welcome; what came in one piece is all that waits

    def _pong(self, data: bytes) -> None:
        """Answers a ping, after what was said before it; not once a close was said here."""
        if self._asked is None and not (self.is_closing or self._has_failed or self.transport.is_closing()):
            self.outbox.send_as_is(data)

    def _answer(self, reader: ServerProtocol, answers: Iterable[bytes] = ()) -> None:
        """Writes what the protocol has to say, in order with what is queued."""
        for data in (*answers, *reader.data_to_send()):
            if self.transport.is_closing():
                break
            self.outbox.write()
            if data != SEND_EOF:
                self.transport.write(data)
            elif self.transport.can_write_eof():
                self.outbox.shut()
                self.transport.write_eof()
        if reader.close_expected() and not self.is_closing:
            self.is_closing = True
            self.outbox.shut()
            self._closing = asyncio.get_running_loop().call_later(self._door.close_seconds, self.transport.abort)
            if reader.close_rcvd is not None:
                self.transport.close()

    def _outcome(self) -> tuple[int, str]:
        if self._asked is not None:
            return self._asked
        close = self._reader and (self._reader.close_rcvd or self._reader.close_sent)
        return (close.code, close.reason) if close else (CloseCode.ABNORMAL_CLOSURE, "")


@lru_cache(maxsize=256)
def _ping(data: bytes) -> bytes:
    """The frame of a ping, which is alike for all whose number it is."""
    return Frame(PING, data).serialize(mask=False)
