"""The end of an instance: everybody who is here leaves at a moment of their own, spread over the drain.

Whoever leaves comes back at once and elsewhere, so that a thousand who left in one moment would all be a burst there.
What leaving means, a close code or an empty answer, is each one's own affair.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from math import ceil
from random import random
from typing import TypeVar

WAVE_SECONDS = 0.05
"""Waves are so far apart; few leave one by one, and do not need all of the time."""

Leaving = TypeVar("Leaving")


class Drain:
    """Whether this instance drains, and at which moment of the drain a waiting call is to end.

    ``wanted`` is set by whoever here finds that the instance must end; its process sees to it.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.wanted = asyncio.Event()
        self._begun = asyncio.Event()
        self._waiting = 0

    @property
    def has_begun(self) -> bool:
        """Whether nobody new is served any more."""
        return self._begun.is_set()

    def begin(self) -> None:
        """From now on everybody leaves."""
        self._begun.set()

    async def begun(self) -> None:
        """Returns once the instance drains."""
        await self._begun.wait()

    async def turn(self) -> None:
        """Returns at the caller's own moment of the drain; never, if there is none."""
        self._waiting += 1
        try:
            await self._begun.wait()
            await asyncio.sleep(random() * min(self.seconds, self._waiting * WAVE_SECONDS))  # noqa: S311  # no secret
        finally:
            self._waiting -= 1


async def in_waves(
    those: Iterable[Leaving], seconds: float, is_busy: Callable[[Leaving], bool] = lambda _: False
) -> AsyncIterator[Leaving]:
    """Yields each when its turn has come, in waves spread over so many seconds; the busy ones as late as may be."""
    waiting, busy = deque(those), list[Leaving]()
    clock = asyncio.get_running_loop().time
    began, pace = clock(), max(len(waiting) / seconds, 1 / WAVE_SECONDS)
    left = 0
    while (waiting or busy) and (elapsed := clock() - began) < seconds:
        busy, idle = _parted(busy, is_busy)
        for one in idle:
            yield one
        due = ceil(pace * (elapsed + WAVE_SECONDS))
        while waiting and left < due:
            left += 1
            one = waiting.popleft()
            if is_busy(one):
                busy.append(one)
            else:
                yield one
        if waiting or busy:
            await asyncio.sleep(WAVE_SECONDS)
    for one in (*waiting, *busy):
        yield one


def _parted(those: Iterable[Leaving], condition: Callable[[Leaving], bool]) -> tuple[list[Leaving], list[Leaving]]:
    fitting: list[Leaving] = []
    others: list[Leaving] = []
    for one in those:
        (fitting if condition(one) else others).append(one)
    return fitting, others
