"""Columns of traffic: what a percentile says, and that nothing is lost on the way into steps."""

from __future__ import annotations

import random

import pytest

from foundations.telemetry import BUCKETS, Histogram
from smart_city.traffic_cop.analytics.minutes import Traffic
from smart_city.traffic_cop.analytics.series import Series, percentile


def buckets_of(*durations: float) -> list[int]:
    histogram = Histogram()
    for seconds in durations:
        histogram.observe(seconds)
    return histogram.counts


def bucket_of(seconds: float) -> int:
    return buckets_of(seconds).index(1)


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0])
def test_a_percentile_lies_in_the_bucket_of_the_true_one(share: float, spread: float) -> None:
    dice = random.Random(7)  # noqa: S311  # the same throws every time
    durations = sorted(min(29, dice.lognormvariate(-6, spread)) for _ in range(1001))
    told = percentile(buckets_of(*durations), share)
    assert told is not None
    true = durations[round(share * 1000)]
    assert abs(bucket_of(told / 1000) - bucket_of(true)) <= 1
    assert 0.55 < told / 1000 / true < 1.8 or true < BUCKETS[0]


def test_percentiles_never_fall() -> None:
    buckets = buckets_of(0.0, 0.0002, 0.0002, 0.003, 0.003, 0.07, 1.2, 40)
    told = [percentile(buckets, share / 100) or 0 for share in range(1, 101)]
    assert told == sorted(told)
    assert told[-1] == BUCKETS[-1] * 1000


def test_where_nothing_was_timed_there_is_no_percentile() -> None:
    assert percentile(buckets_of(), 0.5) is None


def test_what_is_put_into_steps_is_all_there() -> None:
    series = Series(3)
    series.add(0, Traffic(4, {"forbidden": 1}, {2: 3, 5: 1}))
    series.add(2, Traffic(2, {"forbidden": 1, "conflict": 2}, {5: 2}))
    series.add(2, Traffic(1))
    shown = series.of_operation()
    assert shown.requests == [4, 0, 3]
    assert shown.refusals == {"forbidden": [1, 0, 1], "conflict": [0, 0, 2]}
    assert shown.latency_ms.p50[1] is None
    assert shown.latency_ms.p50[0] is not None
    assert shown.total.count == 7
    assert shown.total.refusals == {"forbidden": 2, "conflict": 2}
    assert (shown.total.buckets[2], shown.total.buckets[5], sum(shown.total.buckets)) == (3, 3, 6)
