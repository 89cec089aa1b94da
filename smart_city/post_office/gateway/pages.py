"""Pages of logs, read for those who catch up: who asks for a page before its reading has begun shares that reading.

After a restart thousands come back to the same place of the same log. Nothing is kept beyond a reading; what has just
been sent is `recent`'s matter.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from foundations.errors import CityError
from foundations.supervision import Tasks
from smart_city.post_office.gateway.feed import by_epoch
from smart_city.post_office.gateway.messages import positioned
from smart_city.post_office.log import ChannelLog, Page
from smart_city.vocabulary import Position

PAGE_BYTES = 64 * 1024
"""Old publications are read and written in pieces of about this size, each when the client has taken the one before:
that is all that a slow client keeps here."""
READS_AT_ONCE = 32
"""So many come back at a time: what is said now shares its way to the store with what was missed."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Frames of one epoch, encoded for all who read them: where they end, and how many they are."""

    frames: bytes
    until: Position
    count: int


class Passage:
    """A page, and its publications as frames, which are made once and only if somebody wants them."""

    def __init__(self, page: Page) -> None:
        self.page = page

    @cached_property
    def pieces(self) -> Sequence[Piece]:
        """The frames in their order."""
        return [
            Piece(
                b"".join([positioned(entry, offset, epoch) for offset, entry in enumerate(entries, first)]),
                Position(first + len(entries) - 1, epoch), len(entries),
            )
            for first, epoch, entries in by_epoch(self.page)
        ]  # fmt: skip


class Pages:
    """The readings of this instance that are about to begin, by channel and position."""

    def __init__(self, log: ChannelLog, tasks: Tasks) -> None:
        self._log = log
        self._tasks = tasks
        self._turns = asyncio.Semaphore(READS_AT_ONCE)
        self._coming: dict[tuple[str, Position], asyncio.Task[Passage | CityError]] = {}

    async def read(self, channel: str, since: Position) -> Passage:
        """The page after a position, as the log is after this was asked for.

        Raises:
            Unavailable: the log did not answer in time.
        """
        reading = self._coming.get((channel, since))
        if reading is None:
            reading = self._tasks.spawn(f"read {channel}", self._read(channel, since))
            self._coming[channel, since] = reading
        found = await asyncio.shield(reading)
        if isinstance(found, CityError):
            raise copy.copy(found)  # an error raised to many would grow with each traceback
        return found

    async def _read(self, channel: str, since: Position) -> Passage | CityError:
        async with self._turns:
            del self._coming[channel, since]  # who asks from here on may know of more than this reading finds
            try:
                return Passage(await self._log.read(channel, since, max_bytes=PAGE_BYTES))
            except CityError as error:
                return error
