"""Asking for traffic: how far back, in which steps, and what cannot be asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from foundations.errors import InvalidArgument
from foundations.valkey import Valkey
from smart_city.traffic_cop.analytics import Analytics
from smart_city.traffic_cop.analytics.minutes import Share, Traffic, encode, minute_key
from smart_city.traffic_cop.analytics.operations import MOST_STEPS
from smart_city.traffic_cop.analytics.results import TrafficFigures
from smart_city.traffic_cop.identities import OPERATOR_IDENTITY


def ago(**how_long: float) -> datetime:
    return datetime.now(UTC) - timedelta(**how_long)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def asked(valkey: Valkey, since: datetime | None = None, resolution: int | None = None) -> TrafficFigures:
    return await Analytics(valkey).get_traffic_analytics(OPERATOR_IDENTITY, since, resolution)  # type: ignore[arg-type]  # any number, to be refused


async def put(valkey: Valkey, minutes_ago: int, calls: int) -> None:
    minute = int(datetime.now(UTC).timestamp() // 60) - minutes_ago
    share = Share(operations={"a.b": Traffic(calls, {}, {3: calls})})
    await valkey.command("HSET", valkey.key(minute_key(minute)), "one#1/1", encode(share))


@pytest.mark.parametrize(
    ("since", "resolution", "step"),
    [
        (timedelta(minutes=5), None, 60),
        (timedelta(hours=5), None, 60),
        (timedelta(hours=7), None, 300),
        (timedelta(days=1), None, 300),
        (timedelta(days=1), 3600, 3600),
        (timedelta(minutes=5), 3600, 3600),
    ],
)
async def test_steps_are_as_fine_as_they_may_be(
    valkey: Valkey, since: timedelta, resolution: int | None, step: int
) -> None:
    began = ago(seconds=since.total_seconds())
    shown = await asked(valkey, began, resolution)
    assert shown.resolution_seconds == step
    assert len(shown.minutes) <= MOST_STEPS
    starts = [moment(text) for text in shown.minutes]
    assert all(later - earlier == timedelta(seconds=step) for earlier, later in pairwise(starts))
    assert shown.from_ == shown.minutes[0]
    assert timedelta(0) <= max(began, ago(days=1)) - starts[0] < timedelta(seconds=step + 1)
    assert starts[-1] <= moment(shown.to) < starts[-1] + timedelta(seconds=step)


async def test_an_hour_is_shown_if_nothing_is_said(valkey: Valkey) -> None:
    assert 60 <= len((await asked(valkey)).minutes) <= 62


async def test_what_is_older_than_a_day_is_not_shown(valkey: Valkey) -> None:
    shown = await asked(valkey, ago(days=30), 3600)
    assert len(shown.minutes) in {24, 25}


async def test_each_minute_is_counted_in_its_step(valkey: Valkey) -> None:
    await put(valkey, 1, 5)
    await put(valkey, 100, 7)
    await put(valkey, 1300, 11)
    fine = (await asked(valkey, ago(hours=2))).operations["a.b"]
    assert (len(fine.requests), sum(fine.requests)) == (121, 12)
    assert fine.requests[-2] == 5 or fine.requests[-3] == 5  # a minute may pass in between
    assert len(fine.latency_ms.p50) == 121
    assert sum(one is not None for one in fine.latency_ms.p50) == 2
    coarse = (await asked(valkey, ago(days=1))).operations["a.b"]
    assert sum(coarse.requests) == 23
    assert coarse.total.count == sum(coarse.total.buckets) == 23


async def test_a_share_of_another_release_is_passed_over(valkey: Valkey) -> None:
    await put(valkey, 1, 5)
    minute = int(datetime.now(UTC).timestamp() // 60) - 2
    await valkey.command("HSET", valkey.key(minute_key(minute)), "two#1/1", encode({"v": 2, "operations": [7]}))
    assert (await asked(valkey)).operations["a.b"].total.count == 5


@pytest.mark.parametrize(
    ("since", "resolution", "field"),
    [
        (timedelta(hours=-1), None, "since"),
        (timedelta(days=1), 60, "resolution"),
        (timedelta(hours=7), 60, "resolution"),
    ],
)
async def test_what_lies_ahead_or_is_too_much_is_refused(
    valkey: Valkey, since: timedelta, resolution: int | None, field: str
) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        await asked(valkey, ago(seconds=since.total_seconds()), resolution)
    assert [error.field for error in refusal.value.errors] == [field]
