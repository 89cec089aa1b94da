"""Watching a log: whoever only wants to know that something was published in it, on whichever instance.

It rings and tells nothing else; what was published is read from the log, from a position that the watcher keeps.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from smart_city.post_office.gateway.feed import Subscription
from smart_city.post_office.gateway.hub import Hub


@asynccontextmanager
async def watching(hub: Hub, channel: str, ring: Callable[[], None]) -> AsyncIterator[None]:
    """Calls ``ring`` at everything that is published in the log from now on, and when its continuity broke.

    It may ring for nothing, and once for many publications; it must not wait.

    Raises:
        Unavailable: the bus or the log is away.
    """
    feed = await hub.open(channel)
    subscription = Subscription(_Bell(ring), channel, feed.position)
    feed.live.add(subscription)
    try:
        yield
    finally:
        feed.live.discard(subscription)
        hub.close(feed)


class _Bell:
    """A subscriber of a feed that does not look at its frames."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring

    def send(self, frame: bytes) -> None:
        """Something came."""
        self._ring()

    async def replay(self, frames: bytes) -> None:
        """Something was there."""
        self._ring()
