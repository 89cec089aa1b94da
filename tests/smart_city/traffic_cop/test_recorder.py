"""What an instance writes of its traffic: everything once, also when answers are lost and while Valkey is away."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from foundations.supervision import Tasks
from foundations.telemetry import Counters
from foundations.telemetry.counters import MOST_NAMES
from foundations.valkey import Valkey
from smart_city.traffic_cop.analytics import Analytics, Recorder, recorder
from smart_city.traffic_cop.analytics.results import TrafficFigures
from smart_city.traffic_cop.identities import OPERATOR_IDENTITY
from tests.support.valkey import ValkeyServer, keys_in
from tests.support.waiting import eventually


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    owned = Tasks("test")
    yield owned
    await owned.close()


@pytest.fixture
async def mortal() -> AsyncIterator[tuple[ValkeyServer, Valkey]]:
    """A server of its own, to be hung or killed."""
    with ValkeyServer(appendonly="no") as server:
        connected = await Valkey.connect(server.url, timeout=0.5)
        yield server, connected
        await connected.close()


def recorder_of(valkey: Valkey, tasks: Tasks, counters: Counters, member: str = "one#1") -> Recorder:
    return Recorder(valkey, tasks, counters, member=member, seconds=0.05)


async def figures(valkey: Valkey) -> TrafficFigures:
    return await Analytics(valkey).get_traffic_analytics(OPERATOR_IDENTITY)


async def requests(valkey: Valkey, name: str = "a.b") -> int:
    found = (await figures(valkey)).operations.get(name)
    return sum(found.requests) if found else 0


async def test_all_instances_are_summed(valkey: Valkey, tasks: Tasks) -> None:
    for member, calls in (("one#1", 3), ("two#1", 4)):
        counters = Counters()
        counters.operation("a.b").count += calls
        counters.operation("a.b").refused("forbidden")
        counters.operation("a.b").latency.observe(0.002)
        counters.channel("guide").count += 10 * calls
        assert await recorder_of(valkey, tasks, counters, member).write()
    shown = await figures(valkey)
    assert shown.operations["a.b"].total.count == 7
    assert shown.operations["a.b"].total.refusals == {"forbidden": 2}
    assert sum(shown.operations["a.b"].total.buckets) == 2
    assert sum(shown.channels["guide"].messages) == 70


async def test_only_what_is_new_is_added(valkey: Valkey, tasks: Tasks) -> None:
    counters = Counters()
    own = recorder_of(valkey, tasks, counters)
    for _ in range(3):
        counters.operation("a.b").count += 1
        counters.operation("a.b").refused("forbidden")
        await own.write()
        await own.write()
    shown = (await figures(valkey)).operations["a.b"]
    assert shown.total.count == 3
    assert shown.total.refusals == {"forbidden": 3}


async def test_one_that_comes_back_under_its_name_adds_to_what_it_was(valkey: Valkey, tasks: Tasks) -> None:
    for life in ("one#1", "one#2"):
        counters = Counters()
        counters.operation("a.b").count += 2
        await recorder_of(valkey, tasks, counters, life).write()
    assert await requests(valkey) == 4


async def test_what_was_written_without_an_answer_is_counted_once(
    mortal: tuple[ValkeyServer, Valkey], tasks: Tasks
) -> None:
    server, valkey = mortal
    counters = Counters()
    own = recorder_of(valkey, tasks, counters)
    assert await own.write()
    counters.operation("a.b").count += 5
    server.hang()
    assert not await own.write()  # it lies at the server, which carries it out when it wakes
    counters.operation("a.b").count += 1
    assert not await own.write()
    server.resume()

    async def written() -> bool:
        return await own.write()

    await eventually(written, "it is written")
    assert await requests(valkey) == 6


async def test_what_is_counted_while_valkey_is_away_is_written_later(
    mortal: tuple[ValkeyServer, Valkey], tasks: Tasks
) -> None:
    server, valkey = mortal
    counters = Counters()
    own = recorder_of(valkey, tasks, counters)
    own.start()
    server.kill()
    counters.operation("a.b").count += 5
    assert not await own.write()
    server.start()

    async def is_there() -> bool:
        return await requests(valkey) == 5

    await eventually(is_there, "it is there")
    await own.close()


async def test_what_waits_is_bounded_and_the_oldest_goes_first(
    mortal: tuple[ValkeyServer, Valkey], tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, valkey = mortal
    monkeypatch.setattr(recorder, "MINUTE_SECONDS", 0.001)
    monkeypatch.setattr(recorder, "MOST_UNWRITTEN", 3)
    counters = Counters()
    own = recorder_of(valkey, tasks, counters)
    server.kill()
    for _ in range(6):
        counters.operation("a.b").count += 1
        assert not await own.write()
    server.start()

    async def written() -> bool:
        return await own.write()

    await eventually(written, "it is written")
    kept = [await valkey.command("HLEN", key) for key in await valkey.command("KEYS", "traffic:*")]
    assert sum(kept) == 3


async def test_what_happens_in_a_minute_is_counted_in_that_minute(
    valkey: Valkey, tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "MINUTE_SECONDS", 0.05)
    counters = Counters()
    own = recorder_of(valkey, tasks, counters)
    own.start()

    async def in_several_minutes() -> bool:
        counters.operation("a.b").count += 1
        return len(await keys_in(valkey, "traffic:*")) >= 3

    await eventually(in_several_minutes, "it is in several minutes")
    await own.close()


async def test_at_the_end_what_is_left_is_written(valkey: Valkey, tasks: Tasks) -> None:
    counters = Counters()
    own = Recorder(valkey, tasks, counters, member="one#1", seconds=1000)
    own.start()
    counters.operation("a.b").count += 1
    await own.close()
    assert await requests(valkey) == 1


async def test_minutes_are_kept_for_a_day(valkey: Valkey, tasks: Tasks) -> None:
    counters = Counters()
    counters.operation("a.b").count += 1
    await recorder_of(valkey, tasks, counters).write()
    (key,) = await keys_in(valkey, "traffic:*")
    assert 86_000 < await valkey.command("TTL", key) <= 86_400


def test_names_are_bounded() -> None:
    counters = Counters()
    for number in range(3 * MOST_NAMES):
        counters.channel(f"c{number}").count += 1
    assert len(counters.channels) == MOST_NAMES + 1
    assert counters.channel("other").count == 2 * MOST_NAMES
