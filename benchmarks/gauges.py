"""What the platform tells of itself on ``/metrics``, as far as cases need it: how late its event loop was."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.callers import call, request
from benchmarks.city import City

_BUCKET = re.compile(r'^event_loop_lag_seconds_bucket\{[^}]*le="([^"]+)"[^}]*\} (\S+)', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class LoopLag:
    """How often the loop was at most so late, since the instance began: upper bounds of buckets, in seconds."""

    buckets: Mapping[float, float]

    def since(self, before: LoopLag) -> LoopLag:
        """What came after an earlier look."""
        return LoopLag({bound: count - before.buckets.get(bound, 0.0) for bound, count in self.buckets.items()})

    def within(self, share: float) -> float:
        """The smallest bound in milliseconds that holds for ``share`` of all looks; 1 gives the worst."""
        total = max(self.buckets.values(), default=0.0)
        return 1000 * min((bound for bound, count in self.buckets.items() if count >= share * total), default=math.inf)


async def loop_lag(city: City) -> LoopLag:
    """The instance's own measurement, twenty times a second."""
    page = request("/metrics", method="GET", Authorization=f"Bearer {city.token}")
    _, body = await call(city.host, city.port, page)
    return LoopLag({float(bound): float(count) for bound, count in _BUCKET.findall(body.decode())})
