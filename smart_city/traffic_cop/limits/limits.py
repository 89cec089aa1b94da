"""All buckets of one instance, found by who is held to which limit; what a bucket does is `bucket`'s."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from foundations.rates import Rate
from foundations.valkey import Valkey
from smart_city.traffic_cop.limits.bucket import Bank, Bucket, Standing

MAX_BUCKETS = 100_000
"""Kept here. One that is dropped loses a slice of credit or of debt, nothing more."""


class Limits:
    """All buckets. ``users`` and ``services`` have the rates by the names of limits."""

    def __init__(
        self,
        valkey: Valkey,
        *,
        users: Mapping[str, Rate],
        services: Mapping[str, Rate],
        most: int = MAX_BUCKETS,
    ) -> None:
        self._bank = Bank(valkey)
        self._users = dict(users)
        self._services = dict(services)
        self._most = most
        self._buckets: OrderedDict[tuple[str, str], Bucket] = OrderedDict()

    def bucket(self, subject: str, limit: str) -> Bucket:
        """The bucket of ``subject`` under the limit of this name; keep it, or ask again each time."""
        key = (subject, limit)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(self._bank, subject, limit, self.rate(subject, limit))
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket

    def rate(self, subject: str, limit: str) -> Rate:
        """What ``subject`` is held to.

        Raises:
            KeyError: there is no limit of this name.
        """
        return (self._services if subject.startswith("~") else self._users)[limit]

    async def peek(self, subject: str, limit: str) -> Standing:
        """How ``subject`` stands, as seen from this instance; others may have a slice of its credit in hand.

        Raises:
            Unavailable: Valkey is away.
        """
        rate = self.rate(subject, limit)
        slip = await self._bank.look(subject, limit, rate)
        here = self._buckets.get((subject, limit))
        remaining = min(rate.burst, slip.level + (here.balance if here else 0))
        return Standing(max(0, remaining), 0.0 if remaining > 0 else max(slip.wait, 0.001))
