"""Shared moments: who waits for the same ones is woken together, whenever each began."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from foundations.supervision import Tasks
from foundations.ticks import tick
from tests.support.waiting import until

pytestmark = pytest.mark.on_both_loops
SECONDS = 0.2


async def test_who_began_at_different_times_is_woken_at_the_same(tasks: Tasks) -> None:
    clock = asyncio.get_running_loop().time
    woken = [0.0, 1.0]

    async def wait(number: int, pause: float) -> None:
        await asyncio.sleep(pause)
        while True:
            await tick(SECONDS)
            woken[number] = clock()

    tasks.spawn("one", wait(0, 0))
    tasks.spawn("other", wait(1, SECONDS / 2))
    await until(lambda: abs(woken[0] - woken[1]) < SECONDS / 10, "both are woken at one moment")


async def test_one_moment_is_told_once() -> None:
    clock = asyncio.get_running_loop().time
    moments = []
    for _ in range(5):
        await tick(SECONDS)
        moments.append(clock())
    assert all(after - before > SECONDS / 5 for before, after in pairwise(moments))
