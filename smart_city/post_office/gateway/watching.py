"""Watching a log: whoever only wants to know that something was published in it, on whichever instance.

It rings and tells nothing else; what was published is read from the log, from a position that the watcher keeps.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from smart_city.post_office.gateway.hub import Hub


@asynccontextmanager
async def watching(hub: Hub, channel: str, ring: Callable[[], None]) -> AsyncIterator[None]:
    """Calls ``ring`` at everything that is published in the log from now on, and when its continuity broke.

    It may ring once for many publications; it must not wait, and no two watchers may share one.

    Raises:
        Unavailable: the bus or the log is away.
    """
    feed = await hub.open(channel)
    feed.bells |= {ring}
    try:
        yield
    finally:
        feed.bells -= {ring}
        hub.close(feed)
