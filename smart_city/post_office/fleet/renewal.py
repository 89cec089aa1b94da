"""Renewal: when what an instance has written of its connections is written again, a part of them at a time.

All stand for another lease with each turn. What they say is written seldom, for their last heartbeat and for what a
store may have lost. It knows nothing of what is written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TypeVar

from foundations.errors import CityError

_log = logging.getLogger(__name__)
RENEWALS_A_LEASE = 5 / 3
"""As few as leave time for another try."""
RETRIES_A_LEASE = 10
"""A renewal that failed is tried again so soon that it comes before the lease ends, also after a timeout of a second.

Then ever later: a store that is overloaded is not asked more often than one that is not."""
Item = TypeVar("Item")


class Renewal:
    """The turns of one instance. Everything has one in ``cycle_seconds``, in equal parts (case: idle connections)."""

    def __init__(self, *, lease_seconds: float, cycle_seconds: float) -> None:
        self._lease = lease_seconds
        self._regular = lease_seconds / RENEWALS_A_LEASE
        self._turns = max(1, round(cycle_seconds / self._regular))
        self._turn = 0
        self._is_whole = False

    def renew_all(self) -> None:
        """The next turn is everybody's."""
        self._is_whole = True

    def due(self, items: Mapping[str, Item], stale: Collection[str]) -> list[Item]:
        """Those whose turn is the next, and the stale ones."""
        if self._is_whole:
            self._is_whole = False
            return list(items.values())
        self._turn = (self._turn + 1) % self._turns
        return [item for name, item in items.items() if hash(name) % self._turns == self._turn or name in stale]

    async def keep(self, renew: Callable[[], Awaitable[None]], *, then: Callable[[], None]) -> None:
        """Renews for good. Turns begin so far apart: what one of them takes does not defer the next."""
        pause, is_away = self._regular, False
        while True:
            await asyncio.sleep(pause)
            began = asyncio.get_running_loop().time()
            try:
                await renew()
                is_away = False
                pause = self._until_next(began)
            except CityError as error:
                if not is_away:
                    _log.warning("connections cannot be renewed: %s", error)
                pause = min(2 * pause, self._until_next(began)) if is_away else self._lease / RETRIES_A_LEASE
                is_away = True
            then()

    def _until_next(self, began: float) -> float:
        """Seconds until the turn after the one that began then, also where a hanging node has made that long."""
        return max(self._lease / RETRIES_A_LEASE, began + self._regular - asyncio.get_running_loop().time())
