"""The resume windows: every instance looks after those that are due, whoever held the connections.

A connection whose window has passed is ended, and what its client may not have heard is moved. Of many windows that
end together each instance takes a bounded share at a time.
"""

from __future__ import annotations

import asyncio
import logging

from foundations.errors import CityError
from foundations.supervision import Tasks
from foundations.ticks import tick
from smart_city.post_office.fleet.moving import Moving
from smart_city.post_office.fleet.ownership import Owed, Ownership

_log = logging.getLogger(__name__)

AT_ONCE = 200
MOVED_AT_ONCE = 16
POLL_SECONDS = 0.5


class Windows:
    """One instance's share of the watch. What it took and did not finish, another gets after ``claim_seconds``.

    After the store was away nothing ends for ``quiet_seconds`` from its return, so that the living can say first that
    they live; nor when an instance begins, which cannot know of that.
    """

    def __init__(
        self, ownership: Ownership, moving: Moving, tasks: Tasks, *, claim_seconds: float, quiet_seconds: float
    ) -> None:
        self._ownership = ownership
        self._moving = moving
        self._tasks = tasks
        self._claim_seconds = claim_seconds
        self._quiet_seconds = quiet_seconds
        self._quiet_until = 0.0
        self._turns = asyncio.Semaphore(MOVED_AT_ONCE)

    def start(self) -> None:
        """Begins to watch."""
        self._quiet_until = asyncio.get_running_loop().time() + self._quiet_seconds
        self._tasks.start("resume windows", self._watch)

    async def _watch(self) -> None:
        clock = asyncio.get_running_loop().time
        is_away = False
        while True:
            await tick(POLL_SECONDS)
            try:
                if is_away:
                    await self._ownership.due(0, self._claim_seconds)
                    is_away, self._quiet_until = False, clock() + self._quiet_seconds
                while clock() >= self._quiet_until and await self.look() == AT_ONCE:
                    pass
            except CityError as error:
                if not is_away:
                    _log.warning("resume windows cannot be looked after: %s", error)
                is_away = True

    async def look(self) -> int:
        """Looks after some windows that are due; returns how many there were.

        Raises:
            CityError: the store is away; what was begun is looked after again.
        """
        due = await self._ownership.due(AT_ONCE, self._claim_seconds)
        if due:
            owed = await self._ownership.lapse(due)
            await asyncio.gather(*(self._settle(one) for one in owed))
        return len(due)

    async def _settle(self, owed: Owed) -> None:
        """What cannot be moved now is found again later."""
        async with self._turns:
            try:
                await self._moving.move(owed)
            except CityError as error:
                _log.warning("the log of %s cannot be moved yet: %s", owed.connection_id, error)
                return
            await self._ownership.forget([owed.connection_id])
