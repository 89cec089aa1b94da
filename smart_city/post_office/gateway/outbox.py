"""One connection's unsent bytes: what is written at once, what waits for the round, and how far the client is behind.

Old publications wait until the client has taken what came before; a client that falls behind is reported, not cut off.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from smart_city.post_office.gateway.pace import Pace
from smart_city.post_office.gateway.round import Round

_log = logging.getLogger(__name__)

HIGH_WATER = 64 * 1024
"""Above so many bytes in the transport's buffer replays wait, below a quarter of it they go on."""


class Reader(Protocol):
    """Whose outbox it is: a socket."""

    def lagging(self, is_lagging: bool) -> None:
        """Half of the limit waits to be taken; or, later, it has been taken."""
        ...

    def full(self, is_full: bool) -> None:
        """The whole limit waits: nothing that needs an answer is to be taken from the client until it has made room."""
        ...

    def stalled(self) -> None:
        """The client is waited for, and takes nothing."""
        ...


class Outbox:
    """The frames that one connection has not been given yet, and how far it is behind.

    The unsent limit never counts the first frame in the queue: a frame may be larger than the limit.
    ``is_due`` and ``is_one_of_many`` say in which lists of the round it stands.
    """

    __slots__ = (
        "_drained",
        "_feeding",
        "_first_end",
        "_frames",
        "_is_full",
        "_is_lagging",
        "_is_shut",
        "_limit",
        "_pace",
        "_reader",
        "_round",
        "_round_number",
        "_stall_seconds",
        "_transport",
        "_written",
        "is_due",
        "is_one_of_many",
    )  # fmt: skip

    def __init__(
        self, transport: asyncio.Transport, round_: Round, reader: Reader, *, limit: int, stall_seconds: float
    ) -> None:
        transport.set_write_buffer_limits(min(HIGH_WATER, limit // 2))  # who lags is always above it
        self._transport = transport
        self._round = round_
        self._round_number = -1
        self._reader = reader
        self._limit = limit
        self._stall_seconds = stall_seconds
        self._is_lagging = False
        self._is_full = False
        self._is_shut = False
        self.is_due = False
        self.is_one_of_many = False
        self._frames: list[bytes] = []
        self._written = 0
        self._first_end = 0
        self._drained: asyncio.Event | None = None
        self._feeding: asyncio.Lock | None = None
        self._pace: Pace | None = None

    @property
    def unsent(self) -> int:
        """Bytes that wait for the client, the first frame of the queue not counted."""
        buffered = self._transport.get_write_buffer_size()
        first_left = max(0, self._first_end - (self._written - buffered))
        return max(0, buffered - first_left) + sum(map(len, self._frames))

    @property
    def has_room(self) -> bool:
        """Whether the client has taken so much that what is new may be sent as it comes."""
        return self._drained is None

    @property
    def is_awaited(self) -> bool:
        """Whether something waits until the client has taken what was sent; if it takes nothing, that is reported."""
        return self._pace is not None

    @property
    def takes_work(self) -> bool:
        """Whether it makes sense to send something that another could do sooner."""
        return not (self._is_lagging or self._is_shut)

    def send(self, frame: bytes) -> None:
        """Queues whole frames for the write at the end of this turn."""
        if self._is_shut:
            return
        if not self.is_due:
            self._round.add(self)
        self._frames.append(frame)

    send_as_is = send
    """The same for frames that are alike in every encoding, as control frames are."""

    def deliver(self, frames: bytes) -> None:
        """Writes what many are given, at once where nothing waits before it, and else soon.

        Only the first of a turn is written at once, so that what follows leaves together. It saves queue and second
        look: 7.5 instead of 8.3 µs a delivery (benchmark: fan-out, paced).
        """
        if self._is_shut:
            return
        if not self._frames:
            round_ = self._round
            if self._round_number == round_.number or self._transport.get_write_buffer_size():
                if not self.is_due:
                    round_.add(self)
            elif round_.admits():
                self._round_number = round_.number
                self._write_at_once(frames)
                return
            elif not self.is_one_of_many:
                round_.add_to_many(self)
        self._frames.append(frames)

    def _write_at_once(self, frames: bytes) -> None:
        """Nothing is in the transport's buffer: the first piece there never counts, so that there is none to weigh."""
        self._written += len(frames)
        self._first_end = self._written
        try:
            self._transport.write(frames)
        except Exception:  # a connection is supervised here: the others must be written to
            _log.exception("a connection could not be written to")

    def write(self) -> None:
        """Hands the queued frames to the transport in one piece."""
        frames = self._frames
        if not frames:
            return
        first = frames[0]
        data = first if len(frames) == 1 else b"".join(frames)
        frames.clear()
        transport = self._transport
        if transport.get_write_buffer_size() == 0:
            self._first_end = self._written + len(first)
        self._written += len(data)
        transport.write(data)
        if self._drained is not None:  # else less than half of the limit waits: see `__init__`
            self._weigh()

    def _weigh(self) -> None:
        """Reports a client that has fallen behind, once until it has caught up."""
        unsent = self.unsent
        if unsent > self._limit // 2 and not self._is_lagging:
            self._is_lagging = True
            self._watch()
            self._reader.lagging(True)
        if unsent > self._limit and not self._is_full:
            self._is_full = True
            self._reader.full(True)

    def _watch(self) -> None:
        if self._pace is None and not self._is_shut:
            self._pace = Pace(self._taken, self._reader.stalled, seconds=self._stall_seconds)

    def _taken(self) -> int:
        return self._written - self._transport.get_write_buffer_size()

    # Old publications, at the client's pace

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """The turn of one of its logs to be read and replayed: one after the other, once the client has room."""
        if self._feeding is None:
            self._feeding = asyncio.Lock()
        async with self._feeding:
            await self._room()
            if self._is_shut:  # nothing is read for it any more; who waits here is cancelled when the socket is gone
                await asyncio.get_running_loop().create_future()
            yield

    async def replay(self, frames: bytes) -> None:
        """Writes old frames when the client has taken what came before; they never count as unsent."""
        await self._room()
        self.write()
        if not self._is_shut:
            self._written += len(frames)
            self._first_end = self._written
            self._transport.write(frames)

    async def _room(self) -> None:
        while self._drained is not None:
            self._watch()
            await self._drained.wait()

    def shut(self) -> None:
        """Nothing more is sent: the closing handshake has begun, or the connection is gone."""
        self._is_shut = True
        self._frames.clear()
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
        if self._pace is not None:
            self._pace.stop()
            self._pace = None
        if self._is_full:
            self._is_full = False
            self._reader.full(False)
        if self._is_lagging:
            self._is_lagging = False
            self._reader.lagging(False)


class TranslatingOutbox(Outbox):
    """An outbox whose client is written to in another encoding than that in which frames are handed around."""

    __slots__ = ("_translate",)

    def __init__(
        self, translate: Callable[[bytes], bytes], transport: asyncio.Transport, round_: Round, reader: Reader, *,
        limit: int, stall_seconds: float,
    ) -> None:  # fmt: skip
        super().__init__(transport, round_, reader, limit=limit, stall_seconds=stall_seconds)
        self._translate = translate

    def send(self, frame: bytes) -> None:
        """Queues whole frames, translated."""
        super().send(self._translate(frame))

    def deliver(self, frames: bytes) -> None:
        """Writes what many are given, translated."""
        super().deliver(self._translate(frames))

    async def replay(self, frames: bytes) -> None:
        """Writes old frames, translated."""
        await super().replay(self._translate(frames))
