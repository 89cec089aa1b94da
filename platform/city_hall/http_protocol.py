"""uvicorn's HTTP protocol with bounds on a request's head, in time and in size, and upgrades that wait their turn.

It also lets an application look at what a client has not taken yet, notice one that has vanished, and cut it off: the
ASGI extension `ROAD`.

uvicorn limits only the pause between two requests, so that a connection which sends nothing, or one byte a
minute, or a head without an end, would stay for ever. What an upgraded connection may do is the gateway's matter.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import ClassVar, Protocol, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from websockets.http11 import Request

from city_hall.turnstile import Turnstile
from smart_city.post_office.gateway.handshake import request_of
from smart_city.post_office.gateway.pace import Pace

MOST_HEAD_BYTES = 64 * 1024
ROAD = "smart_city.road"
"""The way to the client: `unsent()` gives the bytes that wait for it, `patience(seconds)` says how long its machine may
take nothing, `cut()` ends the connection at once."""


class Upgraded(Protocol):
    """Whoever serves a connection after its upgrade: an asyncio protocol that answers the request itself."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...

    def upgraded(self, request: Request) -> None:
        """Takes the request as it was read here; written down and read again, as uvicorn does, it costs 60 µs more."""
        ...

    def pause_writing(self) -> None: ...

    def data_received(self, data: bytes) -> None: ...


class PromptHttpProtocol(HttpToolsProtocol):
    """One HTTP connection; the head of a request has to be there within ``head_seconds``.

    An upgrade goes through the server's turnstile; until its turn nothing more is read.
    """

    head_seconds: ClassVar[float] = 10.0
    deaf_seconds: ClassVar[float] = 1.0
    turnstile: ClassVar[Turnstile] = Turnstile(a_turn=64, seconds=10.0)
    _head_deadline: asyncio.TimerHandle | None = None
    _seen: bytes = b""
    _head_bytes: int = 0
    _upgrade_waits: bool = False
    _upgrades: bool = False
    _early: bytes = b""
    _pace: Pace | None = None
    _left: int = 0
    _progress: int = 0

    @classmethod
    def within(cls, seconds: float, *, handshakes: int, deaf_seconds: float = 1.0) -> type[PromptHttpProtocol]:
        """The same with other deadlines, and so many handshakes in one turn of the loop."""
        turnstile = Turnstile(a_turn=handshakes, seconds=seconds)
        within = {"head_seconds": seconds, "deaf_seconds": deaf_seconds, "turnstile": turnstile}
        return type(cls.__name__, (cls,), within)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Hands what came behind an upgrade's head in the same piece to whoever serves the connection now.

        No client should send so early (RFC 6455, 4.1), but nothing is to be lost in silence.
        """
        seen, self._seen = self._seen + data, (self._seen + data)[-3:]
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_deadline is not None and self._head_bytes > MOST_HEAD_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")
            return
        if self._upgrade_waits:  # the request before it may have come in the same piece
            self._early += seen.rpartition(b"\r\n\r\n")[2]
        elif self._upgrades:
            self._early += seen.partition(b"\r\n\r\n")[2]

    def on_message_begin(self) -> None:
        """The first bytes of a request are here."""
        super().on_message_begin()
        self.scope["extensions"] = {
            ROAD: {"unsent": self._unsent, "patience": self._bound_patience, "cut": self.transport.abort}
        }
        self._expect_head()

    def on_headers_complete(self) -> None:
        """A head is complete; from here on it is known who asks for what."""
        self._relax()
        super().on_headers_complete()

    def handle_websocket_upgrade(self) -> None:
        """Waits for the answer to the request before it, which would else arrive among the socket's frames."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._upgrade_waits = True
            return
        self._upgrades = True
        self.transport.pause_reading()
        self.turnstile.enter(self._upgrade)

    def _upgrade(self, is_in_time: bool) -> None:
        """Hands the connection over, with what came behind the head."""
        if self.transport.is_closing():
            return
        if not is_in_time:
            self._refuse(b"503 Service Unavailable")
            return
        try:
            request = request_of(self.scope["method"], self.url, self.headers)
        except ValueError:
            self._refuse(b"400 Bad Request")
            return
        self.connections.discard(self)
        self.transport.resume_reading()
        make = cast(Callable[..., Upgraded], self.ws_protocol_class)
        successor = make(config=self.config, server_state=self.server_state, app_state=self.app_state)
        successor.connection_made(self.transport)
        self.transport.set_protocol(cast(asyncio.Protocol, successor))
        successor.upgraded(request)
        if self.flow.write_paused:  # the transport says so once, and of what it says next the successor is told
            successor.pause_writing()
        if self._early and not self.transport.is_closing():
            successor.data_received(self._early)

    def on_response_complete(self) -> None:
        """A request is answered; an upgrade behind it has its turn."""
        super().on_response_complete()
        if self._upgrade_waits:
            self._upgrade_waits = False
            if self.timeout_keep_alive_task is not None:
                self.timeout_keep_alive_task.cancel()
            self.handle_websocket_upgrade()

    def shutdown(self) -> None:
        """The instance ends: what is under way is answered, and a client that takes nothing of that is cut off.

        uvicorn waits for the last of them, so that each one would cost all the time that there is.
        """
        super().shutdown()
        self._pace = Pace(self._taken, self.transport.abort, seconds=self.deaf_seconds)

    def _taken(self) -> int:
        """Counts the looks at which nothing waited for the client, or less than at the one before."""
        unsent = self._unsent()
        if unsent == 0 or unsent < self._left:
            self._progress += 1
        self._left = unsent
        return self._progress

    def connection_lost(self, exc: Exception | None) -> None:
        if self._pace is not None:
            self._pace.stop()
        self._relax()
        super().connection_lost(exc)

    def _unsent(self) -> int:
        """Bytes that wait here for the client to take what came before."""
        return self.transport.get_write_buffer_size()

    def _bound_patience(self, seconds: float) -> None:
        """Has the system end the connection once what it was given has waited so long (RFC 5482; Linux has it).

        The system takes some megabytes for a client that has vanished, and would try for a quarter of an hour.
        """
        peer = self.transport.get_extra_info("socket")
        if peer.family in {socket.AF_INET, socket.AF_INET6} and hasattr(socket, "TCP_USER_TIMEOUT"):
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * 1000))

    def _refuse(self, status: bytes) -> None:
        self.transport.write(b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
        self.transport.close()

    def _expect_head(self) -> None:
        if self._head_deadline is None:
            self._head_bytes = 0
            self._head_deadline = self.loop.call_later(self.head_seconds, self.transport.abort)

    def _relax(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None
