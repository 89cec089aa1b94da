"""How late the event loop comes to what is due: the first sign that an instance has more to do than it can.

It measures only; who is to have fewer connections then is decided elsewhere.
"""

from __future__ import annotations

import asyncio

from foundations.telemetry.counters import Histogram

EVERY_SECONDS = 0.05


class LoopLag:
    """Looks twenty times a second how late it is woken: often enough to see a storm of a second or two."""

    def __init__(self) -> None:
        self.seconds = Histogram()

    async def watch(self) -> None:
        """Measures until it is cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + EVERY_SECONDS
            await asyncio.sleep(EVERY_SECONDS)
            self.seconds.observe(max(0.0, clock() - due))
