"""Which feeds may be behind their logs, and the comparison that finds out.

The bus promises nothing and loses the newest publication in silence. This asks for newest positions only; how a feed
is repaired is the hub's matter.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from foundations.errors import CityError
from foundations.supervision import Tasks
from smart_city.post_office.channels import is_private
from smart_city.post_office.gateway.feed import Feed
from smart_city.post_office.log import ChannelLog

_log = logging.getLogger(__name__)

AT_ONCE = 500
RETRY_SECONDS = 0.2


class Tails:
    """The channels in doubt. What comes into doubt in one turn of the loop is asked for together."""

    def __init__(
        self, log: ChannelLog, tasks: Tasks, feeds: Mapping[str, Feed], repair: Callable[[Feed], None]
    ) -> None:
        self._log = log
        self._tasks = tasks
        self._feeds = feeds
        self._repair = repair
        self._doubtful: set[str] = set()
        self._is_checking = False

    def start(self, seconds: float, private_seconds: float) -> None:
        """Begins to doubt every feed once in so many seconds; those of private logs, of which some have their turn at a
        time, more seldom: every connection has two (case: idle connections).
        """
        parts = max(1, int(private_seconds / seconds))

        async def doubt() -> None:
            for part in itertools.cycle(range(parts)):
                await asyncio.sleep(seconds)
                self.check([name for name in self._feeds if hash(name) % parts == part or not is_private(name)])

        self._tasks.start("compare feeds with their logs", doubt)

    def check(self, channels: Iterable[str]) -> None:
        """Compares feeds with their logs soon, and has those repaired that are elsewhere."""
        self._doubtful.update(channels)
        if self._doubtful and not self._is_checking:
            self._is_checking = True
            self._tasks.spawn("check tails", self._check_all())

    async def _check_all(self) -> None:
        try:
            while self._doubtful:
                batch = [self._doubtful.pop() for _ in range(min(AT_ONCE, len(self._doubtful)))]
                await self._check_some([channel for channel in batch if channel in self._feeds])
        finally:
            self._is_checking = False

    async def _check_some(self, channels: Sequence[str]) -> None:
        try:
            newest = await self._log.newest(channels)
        except CityError as error:
            _log.warning("channels cannot be compared with their logs, trying again: %s", error)
            self._doubtful.update(channels)
            await asyncio.sleep(RETRY_SECONDS)
            return
        for channel, position in newest.items():
            feed = self._feeds.get(channel)
            if feed is not None and feed.position != position:
                self._repair(feed)
