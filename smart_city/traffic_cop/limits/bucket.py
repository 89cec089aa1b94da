"""Rate limits: token buckets in Valkey that hand out credit in slices, which are spent here without asking.

A bucket belongs to a subject (a user's id, ``~REALM``, the id of a session) under the name of a limit; all
instances share it. Limits refuse, with the moment of return; they queue nothing and delay nobody.

A slice is a tenth of a second's worth, of an address a whole second's. A subject not heard of for a while
gets one on account: only who is fast enough to use it up makes this instance ask Valkey, which settles the
account too. So people at human speed cost no round trip at all, and what may go unaccounted is a fiftieth of
the rate per instance (`_LASTS`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Literal, NamedTuple

from foundations.errors import Overloaded, RateLimited, Unavailable
from foundations.rates import Rate
from foundations.valkey import Script, Valkey

_SLICE_SECONDS = 0.1
_LASTS = 50
"""Credit lasts fifty times as long as it took to accrue: five seconds for a tenth of a second's worth."""
_AWAY_SHARE = 0.1
"""Of its rate, that a subject keeps on each instance while Valkey is away."""
_ADDRESS_SLICE_SECONDS = 1.0
_ADDRESS_AWAY_SHARE = 1.0
"""An address may be the door of thousands, who all come back at once when a store or an instance was away."""
_AWAY_SECONDS = 1.0
"""After a failure nobody asks for so long."""
_PATIENCE = 0.5
"""Seconds after which a Valkey that does not answer counts as away."""


Level = Literal["session", "token", "grant", "user", "service", "operation", "address"]
"""What kind of subject is held to a limit."""
_WHOSE: Mapping[Level, str] = {
    "session": "this session", "token": "this token", "grant": "this session", "user": "the user {}",
    "service": "the service {}", "operation": "{}", "address": "the address {}",
}  # fmt: skip
_WHAT = {"failures": "tokens that are not good"}


@dataclass(frozen=True, slots=True)
class Standing:
    """How a bucket stands: what can be had at once, and else in how many seconds there is something again."""

    remaining: int
    retry_after: float


class _Slip(NamedTuple):
    """What Valkey gave: credit taken, the level left, and seconds until the least asked for can be had."""

    taken: int
    level: int
    wait: float


class Bank:
    """Where the credit comes from: one script call each time, and none for a moment after one has failed."""

    def __init__(self, valkey: Valkey) -> None:
        self._valkey = valkey
        self._script = Script.read("smart_city.traffic_cop", "take_credit")
        self._away_until = 0.0

    async def take(self, bucket: Bucket, *, owed: int, least: int, most: int) -> _Slip | None:
        """Settles ``owed`` and fetches credit for a bucket; None while Valkey is away."""
        if monotonic() < self._away_until:
            return None
        try:
            async with asyncio.timeout(_PATIENCE):
                return await self._run(bucket, owed, least, most)
        except (Unavailable, Overloaded, TimeoutError):
            self._away_until = monotonic() + _AWAY_SECONDS
            return None

    async def look(self, bucket: Bucket) -> _Slip:
        """How a bucket stands; nothing is taken."""
        return await self._run(bucket, 0, 0, 0)

    async def _run(self, bucket: Bucket, owed: int, least: int, most: int) -> _Slip:
        taken, level, milliseconds = await self._valkey.run(
            self._script,
            [self._valkey.key(f"limit:{bucket.limit}:{bucket.subject}")],
            [bucket.rate.per_second, bucket.rate.burst, owed, least, most],
        )
        return _Slip(taken, level, milliseconds / 1000)


class Bucket:
    """The credit of one subject under one limit, as far as it lies on this instance.

    ``credit`` is good until ``lapses_at`` of the monotonic clock; `Chain` reads both, since a method's call is a
    third of what spending costs.
    """

    __slots__ = (
        "_asking", "_bank", "_dry_for", "_dry_until", "_gift_at", "_lasts", "_owed", "_waiting", "credit", "lapses_at",
        "level", "limit", "rate", "slice", "subject",
    )  # fmt: skip

    def __init__(self, bank: Bank, level: Level, subject: str, limit: str, rate: Rate) -> None:
        self.level = level
        self.subject = subject
        self.limit = limit
        self.rate = rate
        slice_seconds = _ADDRESS_SLICE_SECONDS if level == "address" else _SLICE_SECONDS
        self.slice = max(1, min(int(rate.per_second * slice_seconds), rate.burst))
        self._bank = bank
        self.credit = 0
        self._owed = 0  # what was given on account and is not settled yet
        self._lasts = self.slice / rate.per_second * _LASTS
        self.lapses_at = 0.0
        self._waiting = 0
        self._asking: asyncio.Event | None = None
        self._dry_for, self._dry_until = 0, 0.0
        self._gift_at = 0.0

    def spend(self, n: int = 1) -> bool:
        """Takes ``n`` from the credit that lies here; false, and nothing taken, when there is too little."""
        now = monotonic()
        if now >= self.lapses_at:
            self.renew(now)
        if self.credit < n:
            return False
        self.credit -= n
        return True

    def renew(self, now: float) -> None:
        """Gives a slice on account, where what lay here has lapsed at ``now`` of the monotonic clock."""
        self.credit = self._owed = self.slice
        self.lapses_at = now + self._lasts

    async def refill(self, n: int = 1) -> None:
        """Fetches a slice of credit and takes ``n``, or the whole burst where ``n`` is more than that.

        Callers that come while one is asking share what it gets. While Valkey is away a tenth of the rate
        goes on, and nobody waits.

        Raises:
            RateLimited: there is no credit; ``retry_after`` says when there is.
        """
        n = min(n, self.rate.burst)
        self._waiting += n
        try:
            while not self.spend(n):
                if self._asking is not None:
                    await self._asking.wait()
                else:
                    await self._ask(n)
        finally:
            self._waiting -= n

    def check(self) -> None:
        """Spends nothing.

        Raises:
            RateLimited: the last who asked was refused, and would be now.
        """
        if (wait := self._dry_until - monotonic()) > 0:
            raise self._refusal(wait)

    @property
    def balance(self) -> int:
        """How much more this subject may spend than Valkey knows of (less, when negative)."""
        return 0 if monotonic() >= self.lapses_at else self.credit - self._owed

    async def _ask(self, n: int) -> None:
        """Fetches credit for whoever waits, at least enough for ``n``."""
        if (wait := self._dry_until - monotonic()) > 0 and n >= self._dry_for:
            raise self._refusal(wait)
        self._asking = asyncio.Event()
        try:
            owed, least = self._owed, n - self.credit
            most = max(self.slice, self._waiting - self.credit)
            slip = await self._bank.take(self, owed=owed, least=least, most=most)
        finally:
            self._asking.set()
            self._asking = None
        if slip is None:
            self._live_alone()
            return
        self._owed = max(0, self._owed - owed)
        self.credit += slip.taken
        self.lapses_at = monotonic() + self._lasts
        if not slip.taken:
            self._dry_for, self._dry_until = n, monotonic() + slip.wait
            raise self._refusal(slip.wait)

    def _live_alone(self) -> None:
        """Gives a slice as often as makes a share of the rate.

        Raises:
            RateLimited: the last one is too fresh.
        """
        now = monotonic()
        if now < self._gift_at:
            raise self._refusal(self._gift_at - now)
        self.credit += self.slice
        share = _ADDRESS_AWAY_SHARE if self.level == "address" else _AWAY_SHARE
        self._gift_at = now + self.slice / (self.rate.per_second * share)

    def _refusal(self, wait: float) -> RateLimited:
        rate = self.rate
        whose = _WHOSE[self.level].format(self.subject.removeprefix("~"))
        return RateLimited(
            f"{whose} is above the limit of {rate.per_second:g} {self._what} a second",
            retry_after=round(max(wait, 0.001), 3), limit=self.limit, quota=rate.burst,
            window=rate.burst / rate.per_second,
        )  # fmt: skip

    @property
    def _what(self) -> str:
        """What the limit counts, in words."""
        level, _, name = self.limit.partition(".")
        if self.level == "operation":
            return f"calls of {self.limit}"
        if self.level == "grant":
            return f"messages to {name}"
        return _WHAT.get(name, name or level)
