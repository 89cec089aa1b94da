"""One connection's frames on their way to the transport: what is written at once, and what waits for the round.

What the transport cannot pass on is the `backlog`'s matter: a client that falls behind is reported, not cut off. Old
publications wait until the client has taken what came before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from smart_city.post_office.gateway.backlog import Backlog, Patience, Reader
from smart_city.post_office.gateway.round import Round

_log = logging.getLogger(__name__)

_NONE: list[bytes] = []
"""What waits with almost everybody; nobody may add to it."""


class Outbox:
    """The frames that one connection has not been given yet.

    ``is_due`` and ``is_one_of_many`` say in which lists of the round it stands. A delivery looks at little, and at what
    all share where it can: when its turn comes nothing of a connection is in the processor's cache any more, and each
    place looked at there costs as much as all the rest (1 µs of 7; benchmark: fan-out, paced).
    """

    __slots__ = (
        "_backlog", "_feeding", "_frames", "_is_shut", "_patience", "_reader", "_round", "_round_number", "_transport",
        "is_due", "is_one_of_many",
    )  # fmt: skip

    def __init__(self, transport: asyncio.Transport, round_: Round, reader: Reader, patience: Patience) -> None:
        transport.set_write_buffer_limits(0)  # so that it says when it keeps something, and need not be asked
        self._transport = transport
        self._round = round_
        self._round_number = -1
        self._reader = reader
        self._patience = patience
        self._is_shut = False
        self.is_due = False
        self.is_one_of_many = False
        self._frames = _NONE
        self._backlog: Backlog | None = None
        self._feeding: asyncio.Lock | None = None

    @property
    def unsent(self) -> int:
        """Bytes that wait for the client, the first frame of the queue not counted."""
        return (0 if self._backlog is None else self._backlog.unsent) + sum(map(len, self._frames))

    @property
    def has_room(self) -> bool:
        """Whether the client has taken what it was sent, so that what is new may be sent as it comes."""
        return self._backlog is None

    @property
    def is_awaited(self) -> bool:
        """Whether something waits until the client has taken what was sent; if it takes nothing, that is reported."""
        return self._backlog is not None and self._backlog.is_awaited

    @property
    def takes_work(self) -> bool:
        """Whether it makes sense to send something that another could do sooner."""
        return not (self._is_shut or (self._backlog is not None and self._backlog.is_lagging))

    def send(self, frame: bytes) -> None:
        """Queues whole frames for the write at the end of this turn."""
        if self._is_shut:
            return
        if not self.is_due:
            self._round.add(self)
        self._queue(frame)

    send_as_is = send
    """The same for frames that are alike in every encoding, as control frames are."""

    def deliver(self, frames: bytes) -> None:
        """Writes what many are given, at once where nothing waits before it, and else soon.

        Only the first of a turn is written at once, so that what follows leaves together.
        """
        if self._is_shut:
            return
        round_ = self._round
        if not self._frames:
            if self._round_number == round_.number or self._backlog is not None:
                if not self.is_due:
                    round_.add(self)
            elif round_.admits():
                self._round_number = round_.number
                self._write_at_once(frames)
                return
            elif not self.is_one_of_many:
                round_.add_to_many(self)
        self._queue(frames)

    def _queue(self, frame: bytes) -> None:
        if self._frames:
            self._frames.append(frame)
        else:
            self._frames = [frame]

    def _write_at_once(self, frames: bytes) -> None:
        try:
            self._transport.write(frames)
        except Exception:  # a connection is supervised here: the others must be written to
            _log.exception("a connection could not be written to")
        if self._backlog is not None:
            self._backlog.queued(len(frames), len(frames))

    def write(self) -> None:
        """Hands the queued frames to the transport in one piece."""
        frames = self._frames
        if not frames:
            return
        self._frames = _NONE
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        self._transport.write(data)
        if self._backlog is not None:
            self._backlog.queued(len(data), len(frames[0]))

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
            self._transport.write(frames)
            if self._backlog is not None:
                self._backlog.replayed(len(frames))

    async def _room(self) -> None:
        while self._backlog is not None:
            await self._backlog.over()

    def shut(self) -> None:
        """Nothing more is sent: the closing handshake has begun, or the connection is gone."""
        self._is_shut = True
        self._frames = _NONE
        self.resume()

    def pause(self) -> None:
        """The transport keeps something of what was written."""
        if self._backlog is None and not self._is_shut:
            self._backlog = Backlog(self._transport, self._reader, self._patience)

    def resume(self) -> None:
        """The transport keeps nothing more, or the connection is gone."""
        backlog, self._backlog = self._backlog, None
        if backlog is not None:
            backlog.end()


class TranslatingOutbox(Outbox):
    """An outbox whose client is written to in another encoding than that in which frames are handed around."""

    __slots__ = ("_translate",)

    def __init__(
        self, translate: Callable[[bytes], bytes], transport: asyncio.Transport, round_: Round, reader: Reader,
        patience: Patience,
    ) -> None:  # fmt: skip
        super().__init__(transport, round_, reader, patience)
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
