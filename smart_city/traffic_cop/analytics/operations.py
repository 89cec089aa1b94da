"""What the city may ask of its traffic: a day at most, in steps of a minute or coarser ones."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from foundations.errors import FieldError, InvalidArgument
from foundations.operations import operation
from foundations.rates import Rate
from foundations.telemetry import BUCKETS
from foundations.valkey import Valkey
from smart_city.traffic_cop.analytics.minutes import KEPT_SECONDS, MINUTE_SECONDS, minute_key, shares_of
from smart_city.traffic_cop.analytics.results import TrafficFigures
from smart_city.traffic_cop.analytics.series import Series
from smart_city.traffic_cop.results import rfc3339
from smart_city.vocabulary import Identity, Moment

Shaped = TypeVar("Shaped")
USUAL_SECONDS = 3600
RESOLUTIONS = (60, 300, 900, 3600)
MOST_STEPS = 360
"""In one answer; with all names that can be it has then some two megabytes."""
_AT_ONCE = 30
"""Minutes that are asked for together. Each is added up in a turn of its own: of each instance it takes 0.3 ms."""

Since = Annotated[
    Moment,
    Field(description="from when on, as in 2026-11-20T07:00:00Z; a day back at most, an hour if left out"),
]
Resolution = Annotated[
    Literal[60, 300, 900, 3600],
    Field(description="seconds of a step; the finest that makes at most 360 steps if left out"),
]


class Analytics:
    """The operations of the service ``traffic_cop`` on what was counted."""

    def __init__(self, valkey: Valkey) -> None:
        self._valkey = valkey

    @operation(scope="traffic_cop.observe", read_only=True, example={"resolution": 60}, rate=Rate(5, 50))
    async def get_traffic_analytics(
        self, caller: Identity, since: Since | None = None, resolution: Resolution | None = None
    ) -> TrafficFigures:
        """Counts requests, messages, refusals and latencies by operation, channel and step of time.

        All instances are summed, by Valkey's clock, and a few seconds old. Every list has one value for each of
        `minutes`, ready to be plotted; percentiles are null where nothing was timed. What is older than a day is
        not kept: `from` says where the answer begins.

        Errors: `invalid_argument` (a `since` to come, or a `resolution` too fine for so long a time),
        `unavailable`.
        """
        seconds, microseconds = await self._valkey.command("TIME")
        span = _span(seconds + microseconds / 1e6, since.timestamp() if since else None, resolution)
        operations, channels = await self._series(span)
        starts = range(span.first * MINUTE_SECONDS, int(span.now) + 1, span.resolution)
        return TrafficFigures(
            from_=rfc3339(starts[0]), to=rfc3339(span.now), resolution_seconds=span.resolution,
            minutes=[rfc3339(start) for start in starts],
            bucket_bounds_ms=[float(f"{bound * 1000:.6g}") for bound in BUCKETS],
            operations={name: await _yielding(series.of_operation) for name, series in sorted(operations.items())},
            channels={name: await _yielding(series.of_channel) for name, series in sorted(channels.items())},
        )  # fmt: skip

    async def _series(self, span: _Span) -> tuple[dict[str, Series], dict[str, Series]]:
        """What all instances counted in this time, by operation and by channel."""
        operations: defaultdict[str, Series] = defaultdict(partial(Series, span.steps))
        channels: defaultdict[str, Series] = defaultdict(partial(Series, span.steps))
        for first in range(span.first, span.last + 1, _AT_ONCE):
            minutes = range(first, min(first + _AT_ONCE, span.last + 1))
            keys = [self._valkey.key(minute_key(minute)) for minute in minutes]
            found = await asyncio.gather(*(self._valkey.command("HVALS", key) for key in keys))
            for minute, stored in zip(minutes, found, strict=True):
                await asyncio.sleep(0)
                for share in shares_of(stored):
                    for name, traffic in share.operations.items():
                        operations[name].add(span.step(minute), traffic)
                    for name, traffic in share.channels.items():
                        channels[name].add(span.step(minute), traffic)
        return operations, channels


async def _yielding(shape: Callable[[], Shaped]) -> Shaped:
    """Shapes one series in a turn of its own: a hundred of them would hold the event loop too long."""
    await asyncio.sleep(0)
    return shape()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """A stretch of time: its minutes, and the steps of ``resolution`` seconds that they are put into."""

    now: float
    first: int
    last: int
    resolution: int

    @property
    def steps(self) -> int:
        return self.step(self.last) + 1

    def step(self, minute: int) -> int:
        return (minute - self.first) * MINUTE_SECONDS // self.resolution


def _span(now: float, since: float | None, resolution: int | None) -> _Span:
    """The stretch that was asked for, a day at most, beginning with a whole step.

    Raises:
        InvalidArgument: it lies ahead, or makes too many steps.
    """
    since = now - USUAL_SECONDS if since is None else max(since, now - KEPT_SECONDS)
    if since > now + MINUTE_SECONDS:  # clocks differ a little
        raise _wrong("since", "is still to come")
    fits = [one for one in RESOLUTIONS if (now - since) / one < MOST_STEPS - 1]
    if resolution is not None and resolution not in fits:
        raise _wrong("resolution", f"makes more than {MOST_STEPS} steps of so long a time; {fits[0]} does not")
    resolution = resolution or fits[0]
    first = int(min(since, now) // resolution * resolution // MINUTE_SECONDS)
    return _Span(now=now, first=first, last=int(now // MINUTE_SECONDS), resolution=resolution)


def _wrong(field: str, told: str) -> InvalidArgument:
    return InvalidArgument(f"{field}: {told}", errors=[FieldError(field, told)])
