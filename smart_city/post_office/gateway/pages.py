"""Pages of logs, read for those who catch up: who asks for the same page at the same time shares one reading of it.

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
    """The readings of this instance that are under way, by channel and position."""

    def __init__(self, log: ChannelLog, tasks: Tasks) -> None:
        self._log = log
        self._tasks = tasks
        self._turns = asyncio.Semaphore(READS_AT_ONCE)
        self._under_way: dict[tuple[str, Position], asyncio.Task[Passage | CityError]] = {}

    async def read(self, channel: str, since: Position) -> Passage:
        """The page after a position. A refusal is believed by who asked first: for the others it may be too old.

        Raises:
            Unavailable: the log did not answer in time.
        """
        shared = self._under_way.get((channel, since))
        if shared is not None:
            found = await asyncio.shield(shared)
            if isinstance(found, Passage) and not found.page.reason:
                return found
        found = await asyncio.shield(self._under_way.get((channel, since)) or self._begin(channel, since))
        if isinstance(found, CityError):
            raise copy.copy(found)  # an error raised to many would grow with each traceback
        return found

    def _begin(self, channel: str, since: Position) -> asyncio.Task[Passage | CityError]:
        reading = self._tasks.spawn(f"read {channel}", self._read(channel, since))
        self._under_way[channel, since] = reading
        reading.add_done_callback(lambda _: self._under_way.pop((channel, since)))
        return reading

    async def _read(self, channel: str, since: Position) -> Passage | CityError:
        try:
            async with self._turns:
                return Passage(await self._log.read(channel, since, max_bytes=PAGE_BYTES))
        except CityError as error:
            return error
