"""Moments that all share who do something now and then: what they ask Valkey for leaves in one write, at one waking.

It promises no exact period and no order; whoever must not miss a moment sets a timer of its own.
"""

from __future__ import annotations

import asyncio
import random

_PHASE = random.random()  # noqa: S311  # keeps apart the processes of one machine, which share its clock
_TOO_SOON = 0.25
"""Of the period: a timer may fire a little early, and the moment it was for is not told twice."""


async def tick(seconds: float) -> None:
    """Sleeps until the next moment of those who tick every so many seconds: one period, the first time less or more."""
    left = seconds - (asyncio.get_running_loop().time() + _PHASE) % seconds
    await asyncio.sleep(left if left > seconds * _TOO_SOON else left + seconds)
