"""Waiting for something to become true, with a deadline, never for time to pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Value = TypeVar("Value")


async def until(condition: Callable[[], bool], what: str, seconds: float = 5.0) -> None:
    """Waits until ``condition`` holds; after ``seconds`` fails, saying what did not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.002)


async def eventually(check: Callable[[], Awaitable[Value | None]], what: str, seconds: float = 5.0) -> Value:
    """Asks until the answer is something true, and gives it; fails like `until`."""
    deadline = time.monotonic() + seconds
    while not (found := await check()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.002)
    return found
