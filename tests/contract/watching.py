"""Looking from outside until something is so, or has ended, with a deadline. It knows nothing of what it sees."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from websockets.exceptions import ConnectionClosed

from tests.support.waiting import PATIENCE, pauses
from tests.support.wire_client import WireClient

Seen = TypeVar("Seen")


async def eventually(
    look: Callable[[], Awaitable[Seen]], fits: Callable[[Seen], bool], what: str, seconds: float = PATIENCE
) -> Seen:
    """Looks until what is seen fits, and gives it; fails with the last look."""
    deadline, pause = time.monotonic() + seconds, pauses()
    while not fits(seen := await look()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}; last: {seen}"
        await asyncio.sleep(next(pause))  # between two looks at a condition with a deadline
    return seen


async def close_code_of(url: str, token: str, seconds: float = PATIENCE) -> int:
    """Comes in with a token and stays until the server closes; the code it gave, before or after a welcome."""
    try:
        async with WireClient.connected(url, token) as client:
            return await client.close_code(seconds)
    except ConnectionClosed as refused:
        return refused.rcvd.code if refused.rcvd else 1006
