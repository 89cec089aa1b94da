"""Values of the hub: a log as one instance hears it, and one subscriber's place in it.

They keep; what is heard, read and sent is `hub`'s and `joining`'s doing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from smart_city.post_office.channels import is_private
from smart_city.post_office.gateway.recent import Recent
from smart_city.post_office.log import Page, Stretch
from smart_city.post_office.log.bus import Delta
from smart_city.vocabulary import Position


class Subscriber(Protocol):
    """Whoever is sent frames: a connection."""

    def send(self, frame: bytes) -> None:
        """Queues frames for the write at the end of this turn."""
        ...

    def deliver(self, frames: bytes) -> None:
        """Sends frames that many are given, in order with the others: at once, or some turns later."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether it may be sent what is new as it comes; one without room is fed from the log."""
        ...

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Begins once the client has taken what came before, and one of its other logs has had its own turn."""
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
    """One subscriber's place in one log: at ``position`` while it catches up, then where its feed is.

    ``work`` is what is done for it in the background, and ends with it.
    """

    subscriber: Subscriber
    channel: str
    position: Position
    snapshots: Snapshots | None = None
    work: asyncio.Task[None] | None = None


START = Position(0)
"""Where a log is that nobody has written to."""


class Hearing(Protocol):
    """Who is told what a feed hears: the hub."""

    def hear(self, feed: Feed, payload: bytes) -> None:
        """Something came over the bus."""
        ...

    def confirmed(self, feed: Feed) -> None:
        """The bus is heard from now on; at the second time something may have been missed."""
        ...


class Opening(Protocol):
    """The round in which a feed is opened."""

    async def over(self) -> None:
        """Waits until the feed is open, or refused."""
        ...


NOT_RUNG: frozenset[Callable[[], None]] = frozenset()


@dataclass(slots=True, eq=False)
class Feed:
    """One log as this instance hears it, for as long as somebody holds it.

    Beside each of the ``live`` stands whom it delivers to, so that a fan-out need not touch the subscriptions. While
    ``reading``, what is heard waits in ``buffer``; ``is_in_doubt`` says that something may have been missed since the
    reading began. ``bells`` are rung when something was published, for whoever reads the log without being fed.
    ``opening`` is there until the feed is open or has got its ``refusal``, ``repair`` while it is repaired. Every
    connection has two feeds of its own, which are mostly silent: what is empty is shared (case: idle connections).
    """

    channel: str
    hub: Hearing
    holders: int = 0
    opened_at: Position = START
    position: Position = START
    live: dict[Subscription, Subscriber] = field(default_factory=dict)
    bells: frozenset[Callable[[], None]] = NOT_RUNG
    recent: Recent | None = None
    has_streams: bool = False
    reading: bool = True
    buffer: tuple[Stretch, ...] = ()
    is_in_doubt: bool = False
    opening: Opening | None = None
    refusal: Exception | None = None
    repair: asyncio.Task[None] | None = None

    def heard(self, payload: bytes) -> None:
        """Something came over the bus."""
        self.hub.hear(self, payload)

    def confirmed(self) -> None:
        """The bus is heard."""
        self.hub.confirmed(self)

    @property
    def may_have_streams(self) -> bool:
        """Whether answers in parts may be open: each begins with a publication in a private log."""
        return self.has_streams or (self.position != self.opened_at and is_private(self.channel))

    def jump(self, position: Position) -> None:
        """Goes where no frame leads."""
        if position != self.position:
            self.position = position
            if self.recent is not None:
                self.recent.restart(position)

    @contextmanager
    def remembered(self) -> Iterator[Recent]:
        """Keeps what is sent, for whoever is catching up."""
        recent = self.recent = self.recent or Recent(self.position)
        recent.followers += 1
        try:
            yield recent
        finally:
            recent.followers -= 1
            if not recent.followers:
                self.recent = None


def by_epoch(page: Page) -> Iterator[tuple[int, str, tuple[bytes, ...]]]:
    """A page's entries as runs of one epoch each: first offset, epoch, entries."""
    first = page.since + 1
    end = first + len(page.entries)
    starts = [start for _, start in page.chain if first < start < end]
    for begin, stop in zip([first, *starts], [*starts, end], strict=True):
        if begin < stop:
            yield begin, page.epoch_of(begin), page.entries[begin - first : stop - first]
