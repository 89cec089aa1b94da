"""Writes that are answered once replicas have them, on a real primary with a real replica."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from foundations.errors import Unavailable
from foundations.valkey import NotCopied, Script, Valkey
from tests.support.replication import Pair
from tests.support.valkey import plainly
from tests.support.waiting import eventually

COUNT = Script.of("count", "return redis.call('INCR', KEYS[1])")
FAIL = Script.of("fail", "redis.call('INCR', KEYS[1]) return redis.error_reply('WRONG as it was written')")


@pytest.fixture
async def valkey(replicated: Pair) -> AsyncIterator[Valkey]:
    valkey = await Valkey.connect(replicated.primary.url, ack_replicas=1)
    await valkey.command("FLUSHALL")
    yield valkey
    await valkey.close()


async def test_an_answer_means_that_the_replica_has_it(replicated: Pair, valkey: Valkey) -> None:
    on_replica = await Valkey.connect(replicated.replica.url)
    for expected in range(1, 101):
        assert await valkey.acknowledged.run(COUNT, ["k"], []) == expected
        assert await on_replica.command("GET", "k") == str(expected).encode()
    await on_replica.close()


async def test_what_the_replica_does_not_take_is_written_and_not_answered(replicated: Pair, valkey: Valkey) -> None:
    assert await valkey.acknowledged.run(COUNT, ["k"], []) == 1
    replicated.replica.hang()
    with pytest.raises(Unavailable) as refused:
        await valkey.acknowledged.run(COUNT, ["k"], [])
    assert isinstance(refused.value, NotCopied)
    assert await valkey.command("GET", "k") == b"2"
    replicated.replica.resume()
    assert await valkey.acknowledged.run(COUNT, ["k"], []) == 3


async def test_who_writes_without_waiting_is_not_held_up(replicated: Pair, valkey: Valkey) -> None:
    replicated.replica.hang()
    waiting = asyncio.create_task(valkey.acknowledged.run(COUNT, ["k"], []))
    assert [await valkey.run(COUNT, ["other"], []) for _ in range(20)] == list(range(1, 21))
    with pytest.raises(Unavailable):
        await waiting


async def test_what_comes_while_one_batch_waits_goes_together_in_order(replicated: Pair, valkey: Valkey) -> None:
    async def later(turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return int(await valkey.acknowledged.run(COUNT, ["k"], []))

    counted = await asyncio.gather(*(later(turns) for turns in range(300)))
    assert counted == list(range(1, 301))


async def test_an_error_is_told_as_it_is(valkey: Valkey) -> None:
    with pytest.raises(Exception, match="WRONG as it was written"):
        await valkey.acknowledged.run(FAIL, ["k"], [])


async def test_a_connection_that_breaks_fails_those_who_wait_and_the_next_one_serves(
    replicated: Pair, valkey: Valkey
) -> None:
    await valkey.acknowledged.run(COUNT, ["k"], [])
    replicated.replica.hang()
    waiting = asyncio.create_task(valkey.acknowledged.run(COUNT, ["k"], []))

    async def written() -> bool:
        return bool(await valkey.command("GET", "k") == b"2")

    await eventually(written, "the primary has it")
    async with plainly(valkey) as client:
        await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # type: ignore[no-untyped-call]
    with pytest.raises(Unavailable):
        await waiting
    replicated.replica.resume()
    assert await valkey.acknowledged.run(COUNT, ["k"], []) == 3


async def test_without_replicas_to_wait_for_it_is_the_same_client(replicated: Pair) -> None:
    valkey = await Valkey.connect(replicated.primary.url)
    assert valkey.acknowledged is valkey
    await valkey.close()
