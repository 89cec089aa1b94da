"""How late the event loop comes to what is due: the first sign that an instance has more to do than it can.

It measures only; who is to have fewer connections then is decided elsewhere.
"""

from __future__ import annotations

import asyncio

from foundations.telemetry.counters import Histogram

EVERY_SECONDS = 0.25
"""Twenty looks a second were a third of what an idle instance burns."""
CLOSELY_SECONDS = 0.05
LATE_SECONDS = 0.005


class LoopLag:
    """Looks four times a second how late it is woken, and twenty times while it is late: to see a storm of a second."""

    def __init__(self) -> None:
        self.seconds = Histogram()

    async def watch(self) -> None:
        """Measures until it is cancelled."""
        clock = asyncio.get_running_loop().time
        pause = EVERY_SECONDS
        while True:
            due = clock() + pause
            await asyncio.sleep(pause)
            late = max(0.0, clock() - due)
            self.seconds.observe(late)
            pause = EVERY_SECONDS if late < LATE_SECONDS else CLOSELY_SECONDS
