"""The platform's Valkey itself: where it is reached, and what it keeps in memory."""

from __future__ import annotations

from collections.abc import Sequence

import redis.asyncio

from benchmarks.city import City
from foundations.valkey import record


async def used_memory(city: City) -> int:
    """Bytes in use, of all nodes together: a difference is what something takes there."""
    return sum([await _used(url) for url in addresses(city)])


def addresses(city: City) -> Sequence[str]:
    """Where its nodes are reached."""
    if city.nodes:
        return city.nodes
    found = record.read(city.home / "valkey")
    if found is None:
        raise LookupError("the platform's Valkey has left no record of itself")
    return [f"unix://{found.socket}"]


async def _used(url: str) -> int:
    async with redis.asyncio.Redis.from_url(url) as valkey:
        info = await valkey.info("memory")
        return int(info["used_memory"])
