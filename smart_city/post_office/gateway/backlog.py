"""What one client has not taken yet, from when its transport keeps something until it keeps nothing more.

It weighs and watches, and waits; what is written, and when, is `outbox`'s matter.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from smart_city.post_office.gateway.pace import Pace


class Reader(Protocol):
    """Whose outbox it is: a socket."""

    def lagging(self, is_lagging: bool) -> None:
        """Half of the limit waits to be taken; or, later, all has been taken."""
        ...

    def full(self, is_full: bool) -> None:
        """The whole limit waits: nothing that needs an answer is to be taken from the client until it has made room."""
        ...

    def stalled(self) -> None:
        """The client is waited for, and takes nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Patience:
    """How much may wait for a client before it is full, and how long it may take nothing of it."""

    unsent_bytes: int
    stall_seconds: float


class Backlog:
    """The bytes that a transport keeps for a client, as they become more and fewer.

    The first frame is never counted as unsent, since a frame may be larger than the limit; nor is what is replayed.
    """

    __slots__ = (
        "_drained", "_is_full", "_pace", "_patience", "_reader", "_transport", "_uncounted", "_written", "is_lagging",
    )  # fmt: skip

    def __init__(self, transport: asyncio.Transport, reader: Reader, patience: Patience) -> None:
        self._transport = transport
        self._reader = reader
        self._patience = patience
        self._written = 0
        self._uncounted = 0
        """Where that ends which is not counted, in what was written."""
        self._is_full = False
        self._drained: asyncio.Event | None = None
        self._pace: Pace | None = None
        self.is_lagging = False

    @property
    def unsent(self) -> int:
        """Bytes that wait for the client, as far as they count."""
        return max(0, self._written - max(self._uncounted, self._taken()))

    @property
    def is_awaited(self) -> bool:
        """Whether something waits until the client has taken what was sent; if it takes nothing, that is reported."""
        return self._pace is not None

    def queued(self, size: int, first: int) -> None:
        """So much was written, and so much of that is its first frame. Who has fallen behind is reported once."""
        if not self._written:
            self._uncounted = first
        self._written += size
        unsent = self.unsent
        if unsent > self._patience.unsent_bytes // 2 and not self.is_lagging:
            self.is_lagging = True
            self._watch()
            self._reader.lagging(True)
        if unsent > self._patience.unsent_bytes and not self._is_full:
            self._is_full = True
            self._reader.full(True)

    def replayed(self, size: int) -> None:
        """So much was replayed."""
        self._written += size
        self._uncounted = self._written

    async def over(self) -> None:
        """Waits until the client has taken all of it; one that takes nothing is reported."""
        if self._drained is None:
            self._drained = asyncio.Event()
        self._watch()
        await self._drained.wait()

    def end(self) -> None:
        """The client has taken all of it, or is gone."""
        if self._drained is not None:
            self._drained.set()
        if self._pace is not None:
            self._pace.stop()
        if self._is_full:
            self._reader.full(False)
        if self.is_lagging:
            self._reader.lagging(False)

    def _watch(self) -> None:
        if self._pace is None:
            self._pace = Pace(self._taken, self._reader.stalled, seconds=self._patience.stall_seconds)

    def _taken(self) -> int:
        return self._written - self._transport.get_write_buffer_size()
