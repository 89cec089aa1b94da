"""Reads that go to Valkey together."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from foundations.errors import Unavailable
from foundations.supervision import Tasks
from foundations.valkey import Valkey
from smart_city.traffic_cop import lookups as module
from smart_city.traffic_cop.lookups import Lookups
from tests.support.valkey import ValkeyServer


async def calls(valkey: Valkey, command: str) -> int:
    stats = await valkey.command("INFO", "commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


async def test_each_who_asks_gets_what_is_under_its_key(lookups: Lookups, valkey: Valkey) -> None:
    await valkey.command("SET", valkey.key("a"), "1")
    await valkey.command("SET", valkey.key("b"), "2")
    keys = [valkey.key(name) for name in ("b", "nothing", "a", "b")]
    assert await asyncio.gather(*map(lookups.get, keys)) == [b"2", None, b"1", b"2"]


async def test_what_is_asked_in_one_turn_is_one_command(lookups: Lookups, valkey: Valkey) -> None:
    before = await calls(valkey, "mget")
    await asyncio.gather(*(lookups.get(valkey.key(str(number))) for number in range(100)))
    assert await calls(valkey, "mget") == before + 1


async def test_more_than_one_command_should_carry_is_several(
    lookups: Lookups, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 3)
    for number in range(10):
        await valkey.command("SET", valkey.key(str(number)), number)
    keys = [valkey.key(str(number)) for number in range(12)]
    found = await asyncio.gather(*map(lookups.get, keys))
    assert found == [*(str(number).encode() for number in range(10)), None, None]
    assert await lookups.exist(keys) == [*[True] * 10, False, False]


async def test_who_stops_waiting_disturbs_nobody(lookups: Lookups, valkey: Valkey) -> None:
    await valkey.command("SET", valkey.key("a"), "1")
    asking = [asyncio.create_task(lookups.get(valkey.key("a"))) for _ in range(3)]
    await asyncio.sleep(0)
    asking[0].cancel()
    assert await asyncio.gather(*asking[1:]) == [b"1", b"1"]
    with pytest.raises(asyncio.CancelledError):
        await asking[0]


async def test_everybody_is_told_when_valkey_is_away(tasks: Tasks) -> None:
    with ValkeyServer(appendonly="no") as server:
        valkey = await Valkey.connect(server.url)
        lookups = Lookups(valkey, tasks)
        assert await lookups.get("a") is None
        server.kill()
        asked = asyncio.gather(*(lookups.get("a") for _ in range(3)), return_exceptions=True)
        assert [type(outcome) for outcome in await asked] == [Unavailable] * 3
        server.start()
        assert await lookups.get("a") is None
        await valkey.close()


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_who_waits_while_the_instance_closes_is_told_or_answered(valkey: Valkey, turns: int) -> None:
    tasks = Tasks("closing")
    lookups = Lookups(valkey, tasks)
    asking = asyncio.create_task(lookups.get(valkey.key("a")))
    for _ in range(turns):
        await asyncio.sleep(0)
    await tasks.close()
    async with asyncio.timeout(5):
        with contextlib.suppress(Unavailable):
            assert await asking is None


async def test_after_the_instance_has_closed_nobody_is_kept_waiting(valkey: Valkey) -> None:
    tasks = Tasks("closed")
    await tasks.close()
    with pytest.raises(Unavailable):
        await Lookups(valkey, tasks).get(valkey.key("a"))


async def test_what_is_no_fault_of_valkeys_reaches_those_who_asked(tasks: Tasks, valkey: Valkey) -> None:
    lookups = Lookups(valkey, tasks)
    with pytest.raises(TypeError):
        await lookups.get(object())  # type: ignore[arg-type]
