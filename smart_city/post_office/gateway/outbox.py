"""One connection's unsent bytes, and the round that writes for all of them.

What is sent during one turn of the event loop leaves in one write per connection (benchmark: fan-out, burst). Only
a replay waits for the client; a reader that is too slow for live frames is reported once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Round:
    """The outboxes with something to write in this turn of the loop."""

    __slots__ = ("_loop", "_outboxes")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._outboxes: list[Outbox] = []

    def add(self, outbox: Outbox) -> None:
        """Remembers an outbox that has something to write; each adds itself once a turn."""
        if not self._outboxes:
            self._loop.call_soon(self._write)
        self._outboxes.append(outbox)

    def _write(self) -> None:
        outboxes, self._outboxes = self._outboxes, []
        for outbox in outboxes:
            try:
                outbox.write()
            except Exception:  # a connection is supervised here: the others of this turn must be written to
                _log.exception("a connection could not be written to")


class Outbox:
    """The frames that one connection has not been given yet, and how far it is behind.

    The unsent limit never counts the first frame in the queue: a frame may be larger than the limit.
    """

    __slots__ = (
        "_drained",
        "_first_end",
        "_frames",
        "_is_shut",
        "_limit",
        "_on_too_slow",
        "_pending",
        "_round",
        "_too_slow",
        "_transport",
        "_written",
    )  # fmt: skip

    def __init__(
        self,
        transport: asyncio.Transport,
        round_: Round,
        *,
        limit: int,
        on_too_slow: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._round = round_
        self._limit = limit
        self._on_too_slow = on_too_slow
        self._too_slow = False
        self._is_shut = False
        self._frames: list[bytes] = []
        self._pending = 0
        self._written = 0
        self._first_end = 0
        self._drained: asyncio.Event | None = None

    @property
    def unsent(self) -> int:
        """Bytes that wait for the client, the first frame of the queue not counted."""
        buffered = self._transport.get_write_buffer_size()
        first_left = max(0, self._first_end - (self._written - buffered))
        return max(0, buffered - first_left) + self._pending

    def send(self, frame: bytes) -> None:
        """Queues whole frames for the write at the end of this turn."""
        if self._is_shut:
            return
        if not self._frames:
            self._round.add(self)
        self._frames.append(frame)
        self._pending += len(frame)

    send_as_is = send
    """The same for frames that are alike in every encoding, as control frames are."""

    def write(self) -> None:
        """Hands the queued frames to the transport in one piece."""
        frames = self._frames
        if not frames:
            return
        if self._transport.get_write_buffer_size() == 0:
            self._first_end = self._written + len(frames[0])
        self._written += self._pending
        self._transport.write(frames[0] if len(frames) == 1 else b"".join(frames))
        self._frames, self._pending = [], 0
        if not self._too_slow and self.unsent > self._limit:
            self._too_slow = True
            self._on_too_slow()

    async def replay(self, frames: bytes) -> None:
        """Writes old frames when the client has taken what came before; they never count as unsent."""
        while self._drained is not None:
            await self._drained.wait()
        self.write()
        if not self._is_shut:
            self._written += len(frames)
            self._first_end = self._written
            self._transport.write(frames)

    def shut(self) -> None:
        """Nothing more is sent: the closing handshake has begun, or the connection is gone."""
        self._is_shut = True
        self._frames, self._pending = [], 0
        self.resume()

    def pause(self) -> None:
        """The transport's buffer is above its high-water mark."""
        if self._drained is None:
            self._drained = asyncio.Event()

    def resume(self) -> None:
        """The transport's buffer is below its low-water mark, or the connection is gone."""
        if self._drained is not None:
            self._drained.set()
            self._drained = None


class TranslatingOutbox(Outbox):
    """An outbox whose client is written to in another encoding than that in which frames are handed around."""

    __slots__ = ("_translate",)

    def __init__(
        self,
        translate: Callable[[bytes], bytes],
        transport: asyncio.Transport,
        round_: Round,
        *,
        limit: int,
        on_too_slow: Callable[[], None],
    ) -> None:
        super().__init__(transport, round_, limit=limit, on_too_slow=on_too_slow)
        self._translate = translate

    def send(self, frame: bytes) -> None:
        """Queues whole frames, translated."""
        super().send(self._translate(frame))

    async def replay(self, frames: bytes) -> None:
        """Writes old frames, translated."""
        await super().replay(self._translate(frames))
