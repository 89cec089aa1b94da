"""Succession: what becomes of the things that a dead instance held.

Its deliveries go to other agents. Its connections may be resumed elsewhere; their windows end by themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from foundations.errors import CityError
from foundations.supervision import Tasks

_log = logging.getLogger(__name__)


class Deliveries(Protocol):
    """Who takes deliveries back: the dispatcher."""

    def lapsed(self, instance_id: str) -> None:
        """What the consumers of an instance have is taken from them."""
        ...


class Succession:
    """Takes over from instances that are gone. Until an estate is settled, others repeat what this one began."""

    def __init__(self, deliveries: Deliveries, tasks: Tasks, *, settled: Callable[[str], Awaitable[None]]) -> None:
        self._deliveries = deliveries
        self._tasks = tasks
        self._settled = settled

    def lapsed(self, member: str) -> None:
        """The lease of an instance has run out, and this instance was the one to notice."""
        self._deliveries.lapsed(member)
        self._tasks.spawn(f"take over from {member}", self._settle(member))

    async def _settle(self, member: str) -> None:
        try:
            await self._settled(member)
        except CityError as error:
            _log.warning("what %s left behind is not all taken over yet: %s", member, error)
