"""Minutes become columns: counts, refusals and percentiles of latency for each step of time and for all of it."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate

from foundations.telemetry import BUCKETS
from smart_city.traffic_cop.analytics.minutes import Traffic
from smart_city.traffic_cop.analytics.results import ChannelTraffic, OperationTraffic, Percentiles, WholeTime

_FLOOR = BUCKETS[0] / 2
"""Where the first bucket is taken to begin: it has no bound below, and zero has no logarithm."""


class Series:
    """What one operation or channel saw in ``steps`` steps of time."""

    def __init__(self, steps: int) -> None:
        self._counts = [0] * steps
        self._refusals: defaultdict[str, list[int]] = defaultdict(lambda: [0] * steps)
        self._buckets = [[0] * (len(BUCKETS) + 1) for _ in range(steps)]

    def add(self, step: int, traffic: Traffic) -> None:
        """Counts a share of a minute in its step."""
        self._counts[step] += traffic.count
        for code, count in traffic.refusals.items():
            self._refusals[code][step] += count
        for place, count in traffic.latency.items():
            self._buckets[step][place] += count

    def of_operation(self) -> OperationTraffic:
        return OperationTraffic(
            requests=self._counts, refusals=self._refusals, latency_ms=self._percentiles(), total=self._total()
        )

    def of_channel(self) -> ChannelTraffic:
        return ChannelTraffic(
            messages=self._counts, refusals=self._refusals, latency_ms=self._percentiles(), total=self._total()
        )

    def _percentiles(self) -> Percentiles:
        p50, p95, p99 = ([percentile(counts, share) for counts in self._buckets] for share in (0.5, 0.95, 0.99))
        return Percentiles(p50=p50, p95=p95, p99=p99)

    def _total(self) -> WholeTime:
        buckets = [sum(column) for column in zip(*self._buckets, strict=True)]
        p50, p95, p99 = (percentile(buckets, share) for share in (0.5, 0.95, 0.99))
        return WholeTime(
            count=sum(self._counts), refusals={code: sum(counts) for code, counts in self._refusals.items()},
            p50_ms=p50, p95_ms=p95, p99_ms=p99, buckets=buckets,
        )  # fmt: skip


def percentile(buckets: Sequence[int], share: float) -> float | None:
    """The duration in milliseconds that ``share`` of all did not pass, off by less than a bucket; None without any.

    Within a bucket durations are taken to lie evenly on the logarithmic scale of the bounds. What took longer
    than the last bound is only known to have done so: the answer is that bound.
    """
    if not any(buckets):
        return None
    reached = list(accumulate(buckets))
    rank = share * reached[-1]
    place = bisect_left(reached, rank)
    if place == len(BUCKETS):
        return BUCKETS[-1] * 1000
    low, high = BUCKETS[place - 1] if place else _FLOOR, BUCKETS[place]
    within = 1 - (reached[place] - rank) / buckets[place]
    return float(f"{1000 * low * (high / low) ** within:.3g}")
