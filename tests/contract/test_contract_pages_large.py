"""Pages of publications so large that fewer fit than were asked for, read from the newest and back in time."""

from __future__ import annotations

import pytest

from tests.contract.test_contract_pages_back import LARGE, WAYS, numbers, page, read_back, say
from tests.support.platform import Instance

in_town = pytest.mark.asyncio(loop_scope="module")


@in_town
@WAYS
async def test_going_back_over_large_ones_misses_nothing(town: Instance, channel: str, way: str) -> None:
    """A page that holds fewer than were asked for must be short at its far end, or the near ones are skipped."""
    await say(town, channel, 10, LARGE)
    assert await read_back(town, channel, way, limit=10) == list(range(10))


@in_town
@WAYS
async def test_without_a_position_it_is_the_newest_that_come(town: Instance, channel: str, way: str) -> None:
    said = await say(town, channel, 10, LARGE)
    found = await page(town, channel, way, limit=10)
    assert found["publications"], "at least one fits"
    assert numbers(found)[-1] == 9
    assert found["offset"] == said[-1]["offset"]
