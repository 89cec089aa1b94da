"""One WebSocket: bytes in, whole messages out, around websockets' sans-I/O `ServerProtocol`.

It does the protocol's duties (RFC 6455: fragments, UTF-8, control frames, the closing handshake) and nothing of
the city's: messages go to whoever `admitted` the socket. Outgoing data frames bypass the protocol object, since
they are shared between connections.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, cast

from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import SEND_EOF, State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from smart_city.post_office.gateway.fragments import Fragments, check_utf8
from smart_city.post_office.gateway.messages import SUBPROTOCOL, SUBPROTOCOL_MSGPACK
from smart_city.post_office.gateway.outbox import Outbox, Round, TranslatingOutbox

SLICE_BYTES = 8 * 1024
FRAMES_A_TURN = 256
"""A peer's share of one turn of the loop; the smallest frames fill a slice with a thousand."""

quiet = logging.getLogger("smart_city.post_office.gateway.frames")


class Door(Protocol):
    """Where sockets arrive and leave: the gateway."""

    round: Round
    max_message_bytes: int
    max_unsent_bytes: int
    close_seconds: float
    pack: Callable[[bytes], bytes]
    """Makes the frames of a client of MessagePack from those of all others."""

    def arrived(self, socket: Socket, request: Request) -> None:
        """A handshake is complete; admit the socket or close it."""
        ...

    def too_slow(self, socket: Socket) -> None:
        """The socket's unsent bytes have passed the limit."""
        ...


class Listener(Protocol):
    """Whoever a socket was admitted as: a connection."""

    def received(self, data: bytes, is_text: bool) -> None:
        """One whole message; text is known to be UTF-8."""
        ...

    def heard(self) -> None:
        """Something arrived: the peer lives."""
        ...

    def closed(self, code: int, reason: str) -> None:
        """The socket is gone; 1006 when it went without a closing handshake."""
        ...


class Socket(asyncio.Protocol):
    """The asyncio protocol of one WebSocket upgrade. Of the ``open_sockets`` each is shut down at a drain."""

    def __init__(self, door: Door, open_sockets: set[Socket]) -> None:
        self._door = door
        self._open_sockets = open_sockets
        self._protocol = ServerProtocol(
            max_size=self._door.max_message_bytes, logger=quiet, select_subprotocol=_select_subprotocol
        )
        self._fragments: Fragments | None = None
        self._listener: Listener | None = None
        self._waiting: list[tuple[bytes, bool]] = []
        self._closing: asyncio.TimerHandle | None = None
        self._asked: tuple[int, str] | None = None
        self._unread = bytearray()
        self._reading: asyncio.Handle | None = None
        self._frames_in_turn = 0
        self._has_failed = False
        self._is_paused = False
        self._is_held = False
        self.is_closing = False
        self.address = ""
        """Where the client is: the transport's other end, unless its door knows better; empty on a Unix socket."""

    # The transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.address = peer[0] if isinstance(peer, tuple) else ""
        self.outbox = self._new_outbox(Outbox)
        self._open_sockets.add(self)

    def data_received(self, data: bytes) -> None:
        if self._listener is not None:
            self._listener.heard()
        self._unread += data
        if not self._is_paused and self._reading is None:
            self._read()

    def _read(self) -> None:
        """Reads what has arrived in slices, so that one peer's thousands of frames do not fill a turn of the loop.

        The event loop hands over all that a peer has sent, up to megabytes; the other peers, timers and writes
        have their turn between two slices. While the listener takes nothing more, nothing is read.
        """
        self._reading = None
        while self._unread and not self._is_paused:
            if self._frames_in_turn >= FRAMES_A_TURN:
                self._frames_in_turn = 0
                self._hold(True)
                self._reading = asyncio.get_running_loop().call_soon(self._read)
                return
            piece = bytes(self._unread[:SLICE_BYTES])
            del self._unread[:SLICE_BYTES]
            self._feed(piece)
        self._frames_in_turn = 0
        self._hold(self._is_paused)

    def _hold(self, is_held: bool) -> None:
        """Stops or starts the transport's reading, unless it is so already."""
        if is_held != self._is_held and not self.transport.is_closing():
            self._is_held = is_held
            if is_held:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def _feed(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            self._frames_in_turn += 1
            if isinstance(event, Request):
                self._handshake(event)
            elif isinstance(event, Frame) and not (self.is_closing or self._has_failed):
                self._frame(event)
        self._answer()

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._answer()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closing = True
        self._open_sockets.discard(self)
        self._unread.clear()
        for scheduled in (self._closing, self._reading):
            if scheduled is not None:
                scheduled.cancel()
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

    # The city's side

    @property
    def is_packed(self) -> bool:
        """Whether MessagePack in binary messages was agreed on, instead of JSON in text."""
        return self._protocol.subprotocol == SUBPROTOCOL_MSGPACK

    def admitted(self, listener: Listener) -> None:
        """From now on messages go to ``listener``, beginning with those that came during the admission."""
        self._listener = listener
        self.resume_reading()
        waiting, self._waiting = self._waiting, []
        for data, is_text in waiting:
            listener.received(data, is_text)

    def close(self, code: int, reason: str = "") -> None:
        """Sends what is queued, then begins the closing handshake; a peer that does not end it is cut off."""
        if not self._is_open:
            return
        self._asked = (code, reason)
        self.outbox.write()
        self._protocol.send_close(code, reason.encode()[:123].decode(errors="ignore"))
        self._answer()

    def fail(self, code: int, reason: str) -> None:
        """Ends the connection at once, since the peer broke the protocol: it is not waited for (RFC 6455, 7.1.7)."""
        if self._is_open:
            self._has_failed = True
            self._protocol.fail(code, reason)
            self._answer()

    def pause_reading(self) -> None:
        """Takes nothing more from the peer until `resume_reading`."""
        self._is_paused = True
        self._hold(True)

    def resume_reading(self) -> None:
        """Takes from the peer again, beginning with what is here already."""
        if self._is_paused:
            self._is_paused = False
            if self._reading is None:
                self._reading = asyncio.get_running_loop().call_soon(self._read)

    def ping(self) -> None:
        """A protocol-level ping."""
        if self._is_open:
            self._protocol.send_ping(b"")
            self._answer()

    # Between the two

    @property
    def _is_open(self) -> bool:
        return not self.is_closing and not self.transport.is_closing() and self._protocol.state is State.OPEN

    def _handshake(self, request: Request) -> None:
        response = self._protocol.accept(request)
        self._protocol.send_response(response)
        self._answer()
        if response.status_code == 101:
            if self.is_packed:
                self.outbox = self._new_outbox(partial(TranslatingOutbox, self._door.pack))
            self._door.arrived(self, request)

    def _new_outbox(self, kind: Callable[..., Outbox]) -> Outbox:
        return kind(
            self.transport, self._door.round, limit=self._door.max_unsent_bytes,
            on_too_slow=lambda: self._door.too_slow(self),
        )  # fmt: skip

    def _frame(self, frame: Frame) -> None:
        is_text = frame.opcode is Opcode.TEXT
        try:
            if is_text or frame.opcode is Opcode.BINARY:
                if frame.fin:
                    data = bytes(frame.data)
                    if is_text:
                        check_utf8(data)
                    self._message(data, is_text)
                else:
                    self._fragments = Fragments(frame)
            elif frame.opcode is Opcode.CONT and self._fragments is not None:
                whole = self._fragments.go_on(frame)
                if whole is not None:
                    self._fragments = None
                    self._message(*whole)
        except UnicodeDecodeError:
            self.fail(CloseCode.INVALID_DATA, "a text message must be UTF-8")

    def _message(self, data: bytes, is_text: bool) -> None:
        if self._listener is not None:
            self._listener.received(data, is_text)
        else:
            self._waiting.append((data, is_text))
            self.pause_reading()  # until the welcome; what came in one piece is all that waits

    def _answer(self) -> None:
        """Writes what the protocol has to say, in order with what is queued."""
        for data in self._protocol.data_to_send():
            if self.transport.is_closing():
                break
            self.outbox.write()
            if data != SEND_EOF:
                self.transport.write(data)
            elif self.transport.can_write_eof():
                self.outbox.shut()
                self.transport.write_eof()
        if self._protocol.close_expected() and not self.is_closing:
            self.is_closing = True
            self.outbox.shut()
            self._closing = asyncio.get_running_loop().call_later(self._door.close_seconds, self.transport.abort)
            if self._protocol.close_rcvd is not None:
                self.transport.close()

    def _outcome(self) -> tuple[int, str]:
        if self._asked is not None:
            return self._asked
        close = self._protocol.close_rcvd or self._protocol.close_sent
        return (close.code, close.reason) if close else (CloseCode.ABNORMAL_CLOSURE, "")


def _select_subprotocol(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """The client's first choice of those spoken here."""
    return next((name for name in offered if name in (SUBPROTOCOL, SUBPROTOCOL_MSGPACK)), None)
