"""Values of the hub: a log as one instance hears it, and one subscriber's place in it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from smart_city.post_office.bus import Delta
from smart_city.post_office.log import Page, Stretch
from smart_city.vocabulary import Position


class Subscriber(Protocol):
    """Whoever is sent frames: a connection."""

    def send(self, frame: bytes) -> None:
        """Queues frames for the write at the end of this turn."""
        ...

    async def replay(self, frames: bytes) -> None:
        """Writes old frames as fast as the client takes them."""
        ...


class Snapshots:
    """What one subscriber already knows of open answers, so that it gets each part once.

    Parts that arrive before the snapshot are left out and counted; a snapshot that does not reach them is
    taken again.
    """

    __slots__ = ("_known", "_left_out")

    def __init__(self) -> None:
        self._known: dict[str, int] | None = None
        self._left_out: dict[str, int] = {}

    def admits(self, delta: Delta) -> bool:
        """Whether the subscriber is to get this part."""
        if self._known is None:
            self._left_out[delta.message_id] = delta.part
            return False
        return delta.part > self._known.get(delta.message_id, -1)

    def settle(self, snapshot: dict[str, int]) -> bool:
        """Takes a snapshot's parts by message id; false when it must be taken again."""
        behind = any(part > snapshot.get(message_id, -1) for message_id, part in self._left_out.items())
        self._left_out.clear()
        if behind:
            return False
        self._known = snapshot
        return True


@dataclass(slots=True, eq=False)
class Subscription:
    """One subscriber's place in one log. A live one is exactly where its feed is."""

    subscriber: Subscriber
    channel: str
    position: Position
    snapshots: Snapshots | None = None
    has_ended: bool = False


START = Position(0)
"""Where a log is that nobody has written to."""


@dataclass(slots=True, eq=False)
class Feed:
    """One log as this instance hears it. While ``reading``, what the bus says waits in ``buffer``."""

    channel: str
    position: Position = START
    live: set[Subscription] = field(default_factory=set)
    holders: int = 0
    has_streams: bool = False
    reading: bool = True
    buffer: list[Stretch] = field(default_factory=list)
    has_overrun: bool = False
    opening: asyncio.Future[None] | None = None


def matches(position: Position, newest: Position) -> bool:
    """Whether nothing lies between the two; a bare offset is taken in the newest epoch."""
    return position.offset == newest.offset and position.epoch in {"", newest.epoch}


def by_epoch(page: Page) -> Iterator[tuple[int, str, tuple[bytes, ...]]]:
    """A page's entries as runs of one epoch each: first offset, epoch, entries."""
    first = page.since + 1
    end = first + len(page.entries)
    starts = [start for _, start in page.chain if first < start < end]
    for begin, stop in zip([first, *starts], [*starts, end], strict=True):
        if begin < stop:
            yield begin, page.epoch_of(begin), page.entries[begin - first : stop - first]
