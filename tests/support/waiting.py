"""Waiting for something to become true, with a deadline, never for time to pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def until(condition: Callable[[], bool], what: str, seconds: float = 5.0) -> None:
    """Waits until ``condition`` holds; after ``seconds`` fails, saying what did not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.002)
