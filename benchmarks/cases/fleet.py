"""What belonging to a fleet costs an instance as the fleet grows; the other instances are simulated.

Their entries are written into the membership as they would write them, and live for as long as the case. What they
would do beside that costs nothing here.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import redis.asyncio

from benchmarks.case import Case, Figure, Figures, Trial
from benchmarks.cities import city
from benchmarks.spending import Spending
from benchmarks.store import addresses

SIZES = (1, 100, 1_000)
CHANNELS = 40
"""With subscribers on each instance, which it tells the others of."""
SETTLE_SECONDS = 3.0
"""Until a fresh instance is at rest, and has heard of the others."""
LEASES, FIGURES = "{instances}:leases", "{instances}:figures"


async def run(trial: Trial) -> Figures:
    """CPU a second of one instance, and of Valkey for that one instance, by the size of the fleet."""
    subject = city(trial.subject)
    seconds, settle = (1.0, 1.0) if trial.quick else (10.0, SETTLE_SECONDS)
    figures: dict[str, float] = {}
    async with redis.asyncio.Redis.from_url(addresses(subject)[0]) as valkey:
        others: list[str] = []
        try:
            for size in SIZES:
                more = [f"simulated-{number}#1" for number in range(len(others), size - 1)]
                others += more
                await _enter(valkey, more)
                await asyncio.sleep(settle)
                spending = Spending(subject)
                await asyncio.sleep(seconds)
                figures |= spending.each(f"beat_{size}", seconds)
        finally:
            if others:
                await valkey.zrem(LEASES, *others)
                await valkey.hdel(FIGURES, *others)
    return figures


async def _enter(valkey: redis.asyncio.Redis, members: list[str]) -> None:
    """Members with leases of an hour."""
    if not members:
        return
    channels = {f"pillar:channel-{number}": number for number in range(CHANNELS)}
    told = {"v": 1, "host": "simulated", "pid": 1, "started_at": "2026-01-01T00:00:00.000Z", "channels": channels}
    until = (time.time() + 3600) * 1000
    await valkey.zadd(LEASES, dict.fromkeys(members, until))
    entries: dict[Any, Any] = {
        m: json.dumps(told | {"instance_id": m.partition("#")[0], "connections": 10_000}) for m in members
    }
    await valkey.hset(FIGURES, mapping=entries)


CASE = Case(
    name="fleet",
    title="Belonging to a fleet (simulated)",
    about=(
        "One instance with nobody connected, in fleets of 1, 100 and 1 000, of which the others are entries in the "
        "store that tell of 40 channels each. Every instance spends this in each second, and Valkey for each of them."
    ),
    subjects=("platform",),
    most_rounds=1,
    figures=(
        *(
            Figure(f"beat_{size}", f"CPU of the instance a second at {size}, µs", at=size, curve="instance")
            for size in SIZES
        ),
        *(
            Figure(f"beat_{size}_store", f"CPU of Valkey a second at {size}, µs", at=size, curve="Valkey")
            for size in SIZES
        ),
    ),
    run=run,
)
