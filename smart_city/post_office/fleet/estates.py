"""Estates: the connections that dead instances left in the directory are taken out by one of the living.

They are found among the windows, where every connection stands; their records say whose they were. The windows
themselves go on, since all of these may still be resumed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from foundations.telemetry import log_event
from smart_city.post_office.fleet.directory import Directory
from smart_city.post_office.fleet.ownership import Ownership

_log = logging.getLogger(__name__)


class Estates:
    """Takes out what dead members left. ``lives`` says whether one has come back, and has its connections itself."""

    def __init__(self, directory: Directory, ownership: Ownership, lives: Callable[[str], bool]) -> None:
        self._directory = directory
        self._ownership = ownership
        self._lives = lives

    async def clear(self, members: Sequence[str]) -> None:
        """Looks at every connection once for all of them, some hundreds at a time; it can be done again.

        Raises:
            Unavailable: the store did not answer; something may be left.
        """
        count = 0
        async for claims in self._ownership.held_by(lambda: [name for name in members if not self._lives(name)]):
            count += await self._directory.remove(claims)
        log_event(_log, "Connections of dead instances taken out", members=list(members), count=count)
