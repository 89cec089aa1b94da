"""What a network does to the bytes that go one way: values, and how they pace a stream of chunks.

It opens no connection; `faulting_proxy` does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """How one direction behaves. The default is a good network.

    Args:
        delay: seconds that every byte takes at least.
        jitter: seconds that it takes more, at random; order is kept, as TCP keeps it.
        bytes_per_second: the bandwidth; ``None`` for no limit.
        is_blackhole: nothing passes, no close either. What was sent waits, as it would be sent again, and passes
            once this ends.
        hides_close: data passes, but the end of one side is never told to the other: half open.
        cut_after: the connection is reset once so many bytes have passed.
    """

    delay: float = 0.0
    jitter: float = 0.0
    bytes_per_second: float | None = None
    is_blackhole: bool = False
    hides_close: bool = False
    cut_after: int | None = None


GOOD = Conditions()
BLACKHOLE = Conditions(is_blackhole=True)


class Direction:
    """One way of one connection: its conditions now, and what has passed."""

    def __init__(self, conditions: Conditions, chance: Callable[[], float] = random.random) -> None:
        self.conditions = conditions
        self.passed = 0
        self._chance = chance
        self._last_due = 0.0
        self._changed = asyncio.Event()

    def impose(self, conditions: Conditions) -> None:
        """From now on it behaves so, for bytes that are under way, too. ``cut_after`` counts from here."""
        self.conditions, self.passed = conditions, 0
        self._changed.set()
        self._changed = asyncio.Event()

    def due(self, now: float) -> float:
        """When a chunk that comes in now may go out; never before one that came earlier."""
        conditions = self.conditions
        self._last_due = max(self._last_due, now + conditions.delay + conditions.jitter * self._chance())
        return self._last_due

    def within(self, chunk: bytes) -> bytes:
        """As much of a chunk as may pass before the cut."""
        left = self.conditions.cut_after
        return chunk if left is None else chunk[: max(0, left - self.passed)]

    @property
    def is_spent(self) -> bool:
        """Whether the cut is due."""
        left = self.conditions.cut_after
        return left is not None and self.passed >= left

    async def pace(self, chunk: bytes, due: float) -> None:
        """Waits until a chunk may go out under the conditions of that moment."""
        loop = asyncio.get_running_loop()
        if (wait := due - loop.time()) > 0:
            await asyncio.sleep(wait)
        await self.opened()
        if self.conditions.bytes_per_second is not None:
            await asyncio.sleep(len(chunk) / self.conditions.bytes_per_second)
            await self.opened()

    async def opened(self) -> None:
        """Waits for the end of a blackhole."""
        while self.conditions.is_blackhole:
            await self._changed.wait()
