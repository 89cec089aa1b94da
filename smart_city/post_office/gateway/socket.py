"""One WebSocket: bytes in, whole messages out, around websockets' sans-I/O `ServerProtocol`.

It does the protocol's duties (RFC 6455: fragments, UTF-8, control frames, the closing handshake) and nothing of
the city's: messages go to whoever `admitted` the socket. Outgoing data frames bypass the protocol object, since
they are shared between connections; incoming ones that are a whole message do, since it is slow with them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import cast

from websockets.frames import CloseCode, Frame
from websockets.http11 import Request
from websockets.protocol import SEND_EOF, State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from smart_city.post_office.gateway.control import answers_to
from smart_city.post_office.gateway.door import Door, Listener
from smart_city.post_office.gateway.fragments import BINARY, CONTINUATION, PING, PONG, TEXT, Fragments
from smart_city.post_office.gateway.intake import SLICE_BYTES, Intake
from smart_city.post_office.gateway.messages import SUBPROTOCOL, SUBPROTOCOL_MSGPACK
from smart_city.post_office.gateway.outbox import Outbox, TranslatingOutbox
from smart_city.post_office.gateway.whole_frames import WholeFrames

quiet = logging.getLogger("smart_city.post_office.gateway.frames")


class Socket(asyncio.Protocol):
    """The asyncio protocol of one WebSocket upgrade. Of the ``open_sockets`` each is shut down at a drain."""

    def __init__(self, door: Door, open_sockets: set[Socket]) -> None:
        self._door = door
        self._open_sockets = open_sockets
        self._protocol = ServerProtocol(
            max_size=self._door.max_message_bytes, logger=quiet, select_subprotocol=_select_subprotocol
        )
        self._whole_frames: WholeFrames | None = None
        self._fragments: Fragments | None = None
        self._listener: Listener | None = None
        self._waiting: list[tuple[bytes, bool]] = []
        self._closing: asyncio.TimerHandle | None = None
        self._asked: tuple[int, str] | None = None
        self._has_failed = False
        self.is_closing = False
        self.address = ""
        """Where the client is: the transport's other end, unless its door knows better; empty on a Unix socket."""

    # The transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.address = peer[0] if isinstance(peer, tuple) else ""
        self.outbox = self._new_outbox(Outbox)
        self._intake = Intake(self.transport, self._feed)
        self._open_sockets.add(self)

    def data_received(self, data: bytes) -> None:
        if self._listener is not None:
            self._listener.heard()
        self._intake.take(data)

    def _feed(self, data: bytes) -> int:
        """Takes a slice of what arrived, and says how many frames were in it. The request comes alone, as the first."""
        if self._whole_frames is None:
            self._hear(data)
            return 1
        pieces = self._whole_frames.split(data)
        for piece in pieces:
            if isinstance(piece, bytes):
                self._hear(piece)
            elif not (self.is_closing or self._has_failed):
                self._take(*piece)
        return len(pieces)

    def _hear(self, data: bytes) -> None:
        """Lets the protocol read."""
        answers = answers_to(self._protocol, data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                if event.opcode is PING:
                    self._pong(answers.pop(0))
                elif not (self.is_closing or self._has_failed):
                    self._frame(event)
            elif isinstance(event, Request):
                self._handshake(event)
        if answers:
            self._answer(answers)

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._answer()

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
        self._intake.pause()

    def resume_reading(self) -> None:
        """Takes from the peer again, beginning with what is here already."""
        self._intake.resume()

    def ping(self, data: bytes) -> None:
        """A protocol-level ping, after what is queued; its pong brings ``data`` back."""
        if self._is_open:
            self._protocol.send_ping(data)
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
            self._whole_frames = WholeFrames(min(self._door.max_message_bytes, SLICE_BYTES))
            self._door.arrived(self, request)

    def _new_outbox(self, kind: Callable[..., Outbox]) -> Outbox:
        return kind(
            self.transport, self._door.round, self, limit=self._door.max_unsent_bytes,
            stall_seconds=self._door.stall_seconds,
        )  # fmt: skip

    def _frame(self, frame: Frame) -> None:
        """Takes a frame that the protocol has read."""
        if frame.opcode is PONG and self._listener is not None:
            self._listener.ponged(bytes(frame.data))
        elif frame.opcode in (TEXT, BINARY) and frame.fin:
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
            self._waiting.append((data, is_text))
            self.pause_reading()  # until the welcome; what came in one piece is all that waits

    def _pong(self, data: bytes) -> None:
        """Answers a ping, after what was said before it; not once a close was said here."""
        if self._asked is None and not (self.is_closing or self._has_failed or self.transport.is_closing()):
            self.outbox.send_as_is(data)

    def _answer(self, answers: Iterable[bytes] = ()) -> None:
        """Writes what the protocol has to say, in order with what is queued."""
        for data in (*answers, *self._protocol.data_to_send()):
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
