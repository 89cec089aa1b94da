"""Telling an instance that connections of its have new owners, so that it lets their sockets go at once.

The bus may lose it: an instance that was deaf for a moment is told so, and asks whose its connections are.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec
from msgspec import Struct

from foundations.errors import CityError
from foundations.supervision import Tasks
from foundations.valkey.client import Valkey
from foundations.valkey.subscriptions import Subscriptions

_log = logging.getLogger(__name__)
AGAIN_SECONDS = 0.5
"""After so long an instance is told that could not be told: until then both sockets are open."""


class _Taken(Struct):
    """Connections with the fences of their new owners."""

    fences: dict[str, int]
    v: int = 1


class Takeovers:
    """What this instance, ``member`` in this life, tells of connections that it took over, and hears of its own."""

    def __init__(self, valkey: Valkey, subscriptions: Subscriptions, tasks: Tasks, *, member: str) -> None:
        self._valkey = valkey
        self._subscriptions = subscriptions
        self._tasks = tasks
        self._member = member
        self._untold: dict[str, dict[str, int]] = {}
        self.heard: list[Callable[[str, int], None]] = []
        """Told of each connection that was taken over from here, with its new fence."""
        self.heard_again: list[Callable[[], None]] = []
        """Told when something may have been missed."""

    async def start(self) -> None:
        """Begins to hear."""
        await self._subscriptions.listen(_bus(self._member), self._hear, self._hear_again)

    def tell(self, holder: str, connection_id: str, fence: int) -> None:
        """Tells the holder of a connection that it has a new owner; those of one turn are told together."""
        if not self._untold:
            asyncio.get_running_loop().call_soon(lambda: self._tasks.spawn("tell of takeovers", self._send()))
        fences = self._untold.setdefault(holder, {})
        fences[connection_id] = max(fence, fences.get(connection_id, 0))

    async def _send(self) -> None:
        untold, self._untold = self._untold, {}
        for holder, fences in untold.items():
            try:
                await self._valkey.command(
                    "SPUBLISH", self._valkey.key(_bus(holder)), msgspec.json.encode(_Taken(fences))
                )
            except CityError as error:
                _log.warning("%s is not told of %d takeovers yet: %s", holder, len(fences), error)
                self._tasks.spawn("tell of takeovers again", self._tell_later(holder, fences))

    async def _tell_later(self, holder: str, fences: dict[str, int]) -> None:
        await asyncio.sleep(AGAIN_SECONDS)
        for connection_id, fence in fences.items():
            self.tell(holder, connection_id, fence)

    def _hear_again(self) -> None:
        for tell in self.heard_again:
            tell()

    def _hear(self, payload: bytes) -> None:
        for connection_id, fence in msgspec.json.decode(payload, type=_Taken).fences.items():
            for tell in self.heard:
                tell(connection_id, fence)


def _bus(member: str) -> str:
    return f"bus:takeovers:{member}"
