"""Several buckets that somebody is held to at once, as one: a session's and its user's, say.

What is spent is taken from each or from none. Which buckets those are is not decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic

from smart_city.traffic_cop.limits.bucket import Bucket


class Chain:
    """Buckets, the narrowest first: what that one refuses costs the others nothing, not even a question."""

    __slots__ = ("_buckets",)

    def __init__(self, buckets: Sequence[Bucket]) -> None:
        self._buckets = tuple(buckets)

    def spend(self, n: int = 1) -> bool:
        """Takes ``n`` from what lies here in each bucket; false, and nothing taken, when one has too little."""
        now = monotonic()
        for bucket in self._buckets:
            if now >= bucket.lapses_at:
                bucket.renew(now)
            if bucket.credit < n:
                return False
        for bucket in self._buckets:
            bucket.credit -= n
        return True

    async def refill(self, n: int = 1) -> None:
        """Fetches credit for whichever bucket has too little, and takes ``n`` from each.

        Raises:
            RateLimited: one has none; what the others gave they have back.
        """
        given: list[Bucket] = []
        try:
            for bucket in self._buckets:
                if not bucket.spend(n):
                    await bucket.refill(n)
                given.append(bucket)
        except BaseException:
            for bucket in given:
                bucket.credit += min(n, bucket.rate.burst)
            raise
