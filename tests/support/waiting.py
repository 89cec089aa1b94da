"""Waiting for something to become true, with a deadline, never for time to pass.

A deadline here only bounds a failure: what a busy machine does late is no failure. It is not what a contract promises
about time; a test of such a promise says its own seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import TypeVar

Value = TypeVar("Value")

PATIENCE = 20.0
"""Seconds for what comes at once on a quiet machine."""
ROOM = 8.0
"""Seconds that a busy machine adds to what a contract promises: a test that measures leaves this room beside it."""
FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.25


def pauses() -> Iterator[float]:
    """Between two looks, ever longer: who looks through an operation stays below its rate of 5 a second, burst 50."""
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * 1.2, LONGEST_PAUSE)


async def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Waits until ``condition`` holds; after ``seconds`` fails, saying what did not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.002)


async def eventually(check: Callable[[], Awaitable[Value | None]], what: str, seconds: float = PATIENCE) -> Value:
    """Asks until the answer is something true, and gives it; fails like `until`."""
    deadline, pause = time.monotonic() + seconds, pauses()
    while not (found := await check()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(next(pause))
    return found


async def all_but_one(tasks: Collection[asyncio.Task[Value]]) -> tuple[list[Value], asyncio.Task[Value]]:
    """Waits until one task is left, whichever that is; what the others gave, and that one."""
    given: list[Value] = []
    left = set(tasks)
    while len(left) > 1:
        ended, left = await asyncio.wait(left, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        assert ended, f"{len(left)} have not ended within {PATIENCE} s"
        given += [task.result() for task in ended]
    (last,) = left
    return given, last
