"""All buckets of one instance, found by who is held to which limit; what a bucket does is `bucket`'s."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

from foundations.operations import Caller
from foundations.proxies import household
from foundations.rates import Rate
from foundations.valkey import Valkey
from smart_city.traffic_cop.limits.bucket import Bank, Bucket, Level, Standing
from smart_city.traffic_cop.limits.chain import Chain
from smart_city.vocabulary import Grant, Identity

MAX_BUCKETS = 100_000
"""Kept here. One that is dropped loses a slice of credit or of debt, nothing more."""
Rates = Mapping[str, Rate]
"""By the names of limits."""
_Key = TypeVar("_Key")
_Kept = TypeVar("_Kept")


class Limits:
    """The limits of the platform: of ``users`` and ``services``, and within them of each of their credentials.

    A session has ``session_share`` of its user's long-run rate unless it was given rates of its own, so that one
    that knows no measure leaves something to the others; a service's token has the whole of its realm's. An
    address is held to what comes from it before anybody is known.
    """

    def __init__(
        self,
        valkey: Valkey,
        *,
        users: Rates,
        services: Rates,
        addresses: Rates = MappingProxyType({}),
        session_share: float = 1.0,
        most: int = MAX_BUCKETS,
    ) -> None:
        self._bank = Bank(valkey)
        self._users = dict(users)
        self._services = dict(services)
        self._addresses = dict(addresses)
        self._operations: dict[str, Rate] = {}
        self._sessions = {
            name: Rate(rate.per_second * session_share, rate.burst) for name, rate in users.items() if session_share < 1
        }
        self._most = most
        self._buckets: OrderedDict[tuple[str, str], Bucket] = OrderedDict()
        self._credits: OrderedDict[tuple[str, str, str], Bucket | Chain] = OrderedDict()

    def hold(self, operations: Rates) -> None:
        """Holds the callers of some operations, by ``service.name``, to rates beside that of all calls."""
        self._operations.update(operations)

    def most(self, kind: str) -> Rates:
        """The rates of a user (whose ``kind`` is ``session``) or of a service, which nobody can be given more than."""
        return self._users if kind == "session" else self._services

    def credit(self, caller: Caller, limit: str, operation: str = "") -> Bucket | Chain:
        """What ``caller`` has under a limit, and under that of ``operation`` if it has one; keep it, or ask again."""
        key = (caller.subject, caller.credential, operation or limit)
        credit = self._credits.get(key)
        if credit is None:
            credit = self._credits[key] = self._resolved(caller, limit, operation)
            _bound(self._credits, self._most)
        else:
            self._credits.move_to_end(key)
        return credit

    def bucket(self, subject: str, limit: str) -> Bucket:
        """The bucket of a user or service under the limit of this name.

        Raises:
            KeyError: there is no limit of this name.
        """
        level: Level = "service" if subject.startswith("~") else "user"
        rates = self._services if level == "service" else self._users
        return self._bucket(level, subject, limit, rates[limit])

    def bucket_of_credential(self, caller: Caller, limit: str) -> Bucket | None:
        """The bucket of the session or token behind ``caller``; None where it has only that of its subject."""
        rate = caller.rates.get(limit)
        if rate is None and caller.kind == "session":
            rate = self._sessions.get(limit)
        if rate is None:
            return None
        level: Level = "session" if caller.kind == "session" else "token"
        return self._bucket(level, caller.credential, f"{level}.{limit}", rate)

    def bucket_of_operation(self, subject: str, operation: str) -> Bucket | None:
        """The bucket of a caller's calls of one operation; None where that has no rate."""
        rate = self._operations.get(operation)
        return None if rate is None else self._bucket("operation", subject, operation, rate)

    def sending(self, caller: Identity, channel: str) -> Bucket | Chain | None:
        """What a session may still put onto a channel by the rates of its grants; None if they have none."""
        rated = [grant for grant in caller.grants if grant.rate is not None and grant.covers(channel)]
        buckets = [bucket for grant in rated if (bucket := self.bucket_of_grant(caller, grant)) is not None]
        return Chain(buckets) if len(buckets) > 1 else next(iter(buckets), None)

    def bucket_of_grant(self, caller: Identity, grant: Grant) -> Bucket | None:
        """The bucket of what a session sends by the rate of a grant; None where that has no rate."""
        if grant.rate is None:
            return None
        return self._bucket("grant", caller.credential, channel_limit(grant.pattern), grant.rate)

    def handshakes(self, address: str) -> Bucket:
        """The bucket of an address's WebSocket handshakes."""
        return self.bucket_of_address(address, "handshakes")

    def failures(self, address: str) -> Bucket:
        """The bucket of what an address fails to prove."""
        return self.bucket_of_address(address, "failures")

    def bucket_of_address(self, address: str, limit: str) -> Bucket:
        """The bucket of an address, which a whole IPv6 network shares.

        Raises:
            KeyError: there is no limit of this name.
        """
        return self._bucket("address", household(address), f"address.{limit}", self._addresses[limit])

    async def standing(self, bucket: Bucket) -> Standing:
        """How somebody stands, as seen from this instance; others may have a slice of the credit in hand.

        Raises:
            Unavailable: Valkey is away.
        """
        slip = await self._bank.look(bucket)
        remaining = min(bucket.rate.burst, slip.level + bucket.balance)
        return Standing(max(0, remaining), 0.0 if remaining > 0 else max(slip.wait, 0.001))

    def _resolved(self, caller: Caller, limit: str, operation: str) -> Bucket | Chain:
        narrow = self.bucket_of_credential(caller, limit), self.bucket_of_operation(caller.subject, operation)
        whole = self.bucket(caller.subject, limit)
        buckets = [bucket for bucket in (*narrow, whole) if bucket is not None]
        return Chain(buckets) if len(buckets) > 1 else whole

    def _bucket(self, level: Level, subject: str, limit: str, rate: Rate) -> Bucket:
        key = (subject, limit)
        bucket = self._buckets.get(key)
        if bucket is None or bucket.rate != rate:
            bucket = self._buckets[key] = Bucket(self._bank, level, subject, limit, rate)
            _bound(self._buckets, self._most)
        self._buckets.move_to_end(key)
        return bucket


def channel_limit(pattern: str) -> str:
    """The name of the limit that a grant on these channels sets to sending."""
    return f"channel.{pattern}"


def _bound(kept: OrderedDict[_Key, _Kept], most: int) -> None:
    if len(kept) > most:
        kept.popitem(last=False)
