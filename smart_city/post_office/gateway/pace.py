"""Whether a client that is waited for takes anything at all: one that does, however slowly, may stay.

It counts looks and not seconds, so that an instance that was itself asleep blames nobody for that time. What
waits for the client, and what becomes of one that stalls, is not known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LOOKS = 5
"""So many looks in a row at which nothing more was taken make a stall."""


class Pace:
    """Looks now and then how many bytes were ``taken``, until it is stopped or has called ``on_stalled``."""

    __slots__ = ("_before", "_idle", "_on_stalled", "_pause", "_taken", "_timer")

    def __init__(self, taken: Callable[[], int], on_stalled: Callable[[], None], *, seconds: float) -> None:
        self._taken = taken
        self._on_stalled = on_stalled
        self._pause = seconds / LOOKS
        self._before = taken()
        self._idle = 0
        self._look_later()

    def stop(self) -> None:
        """Looks no more."""
        self._timer.cancel()

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._pause, self._look)

    def _look(self) -> None:
        taken = self._taken()
        self._idle = 0 if taken > self._before else self._idle + 1
        self._before = max(taken, self._before)
        if self._idle >= LOOKS:
            self._on_stalled()
        else:
            self._look_later()
