"""Succession: what becomes of the things that a dead instance held.

Its deliveries go to other agents. Its connections leave the directory; until their windows end they may be resumed.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from foundations.errors import CityError
from foundations.supervision import Tasks

_log = logging.getLogger(__name__)


class Deliveries(Protocol):
    """Who takes deliveries back: the dispatcher."""

    def lapsed(self, instance_id: str) -> None:
        """What the consumers of an instance have is taken from them."""
        ...


class Connections(Protocol):
    """Who takes connections out of the directory: the estates."""

    async def clear(self, members: Sequence[str]) -> None:
        """What instances had is no longer there."""
        ...


class Succession:
    """Takes over from instances that are gone. Until an estate is settled, others repeat what this one began."""

    def __init__(
        self, deliveries: Deliveries, connections: Connections, tasks: Tasks, *,
        settled: Callable[[str], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._deliveries = deliveries
        self._connections = connections
        self._tasks = tasks
        self._settled = settled
        self._gone: list[str] = []
        """Those of this turn: of a machine that dies all instances go at once, and are looked for together."""

    def lapsed(self, member: str) -> None:
        """The lease of an instance has run out, and this instance was the one to notice."""
        self._deliveries.lapsed(member)
        if not self._gone:
            self._tasks.spawn("take over from the dead", self._settle())
        self._gone.append(member)

    async def _settle(self) -> None:
        members, self._gone = self._gone, []
        try:
            await self._connections.clear(members)
            for member in members:
                await self._settled(member)
        except CityError as error:
            _log.warning("what %s left behind is not all taken over yet: %s", ", ".join(members), error)
