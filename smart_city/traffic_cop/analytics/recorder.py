"""Writes what this instance counts into the minutes in Valkey, every few seconds and at the end.

The hot path touches integers alone; here they are compared with what they were. A share is written whole each
time under a name of its own, so that writing it again does no harm. While Valkey is away shares are kept, the
oldest of a long outage are given up.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic, time

from foundations.errors import Overloaded, Unavailable
from foundations.supervision import Tasks
from foundations.telemetry import Counters, Tally, log_event
from foundations.valkey import Script, Valkey
from smart_city.traffic_cop.analytics.minutes import (
    KEPT_SECONDS,
    MINUTE_SECONDS,
    Share,
    Traffic,
    encode,
    minute_key,
)

_log = logging.getLogger("smart_city.traffic_cop")

MOST_UNWRITTEN = 120
"""Shares that wait for Valkey: two hours of them."""


@dataclass(slots=True)
class _Page:
    """A share and where it belongs. ``name`` is of this page alone: nobody else writes that field."""

    minute: int
    name: str
    share: Share = field(default_factory=Share)


class Recorder:
    """What one instance, in this life called ``member``, adds to the minutes; it writes every ``seconds``.

    Minutes are those of Valkey's clock, which all instances share, as of its last answer; a clock that is set
    back begins another page of the same minute.
    """

    def __init__(self, valkey: Valkey, tasks: Tasks, counters: Counters, *, member: str, seconds: float) -> None:
        self._valkey = valkey
        self._tasks = tasks
        self._member = member
        self._seconds = seconds
        self._script = Script.read("smart_city.traffic_cop.analytics", "record_traffic")
        self._operations = _Watched(counters.operations)
        self._channels = _Watched(counters.channels)
        self._numbers = itertools.count(1)
        self._lead = time() - monotonic()
        self._page = self._new_page()
        self._unwritten: dict[str, _Page] = {}
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to write; counting has begun with the counters themselves."""
        self._loop = self._tasks.start("record traffic", self._run)

    async def close(self) -> None:
        """Writes what is left. With Valkey away it is lost, and the log says so."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait({self._loop})
        if not await self.write() and self._unwritten:
            log_event(_log, "Traffic not recorded", level=logging.WARNING, minutes=len(self._unwritten))

    async def write(self) -> bool:
        """Writes what was counted since the last time, and what could not be written then; false if it still waits."""
        self._count()
        pages = list(self._unwritten.values())
        try:
            await self._send(pages)
        except (Unavailable, Overloaded):
            return False
        for page in pages:
            self._unwritten.pop(page.name, None)
        return True

    async def _run(self) -> None:
        while True:
            await self.write()
            now = self._now()
            to_the_end_of_the_minute = MINUTE_SECONDS - now % MINUTE_SECONDS
            await asyncio.sleep(min(self._seconds, to_the_end_of_the_minute))

    def _count(self) -> None:
        """Adds what is new to the page that was open while it happened, and turns the page when its minute is over."""
        grown = Share(operations=self._operations.grown(), channels=self._channels.grown())
        if grown:
            self._page.share.add(grown)
            self._unwritten[self._page.name] = self._page
        if self._minute() != self._page.minute:
            self._page = self._new_page()
        while len(self._unwritten) > MOST_UNWRITTEN:
            del self._unwritten[next(iter(self._unwritten))]

    async def _send(self, pages: Sequence[_Page]) -> None:
        """Writes pages in one call, and learns what time it is."""
        began = monotonic()
        words = [word for page in pages for word in (page.name, encode(page.share))]
        keys = [self._valkey.key(minute_key(page.minute)) for page in pages]
        seconds, microseconds = await self._valkey.run(self._script, keys, [KEPT_SECONDS, *words])
        self._lead = int(seconds) + int(microseconds) / 1e6 - (began + monotonic()) / 2

    def _new_page(self) -> _Page:
        return _Page(self._minute(), f"{self._member}/{next(self._numbers)}")

    def _now(self) -> float:
        """Valkey's time, in seconds since 1970."""
        return monotonic() + self._lead

    def _minute(self) -> int:
        return int(self._now() // MINUTE_SECONDS)


class _Watched:
    """Tallies, and what they were when last looked at."""

    def __init__(self, tallies: Mapping[str, Tally]) -> None:
        self._tallies = tallies
        self._before: dict[str, tuple[int, dict[str, int], list[int]]] = {}

    def grown(self) -> dict[str, Traffic]:
        """What has come since the last look, by name; names without anything new are left out."""
        found: dict[str, Traffic] = {}
        for name, tally in self._tallies.items():
            count, refusals, buckets = tally.count, tally.refusals, tally.latency.counts
            before = self._before.get(name, (0, {}, [0] * len(buckets)))
            if (count, refusals, buckets) != before:
                found[name] = Traffic(
                    count - before[0],
                    {code: n - before[1].get(code, 0) for code, n in refusals.items() if n != before[1].get(code, 0)},
                    {place: n - m for place, (n, m) in enumerate(zip(buckets, before[2], strict=True)) if n != m},
                )
                self._before[name] = (count, dict(refusals), list(buckets))
        return found
