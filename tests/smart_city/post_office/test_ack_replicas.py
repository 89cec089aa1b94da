"""With replicas to wait for, what a sender is told is safe on them, too: publications and questions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from foundations.errors import Unavailable
from foundations.supervision import Tasks
from foundations.valkey import Valkey
from smart_city.post_office.inbox.questions import Queued
from smart_city.post_office.keep import Held, Keep
from smart_city.post_office.log import Appended
from smart_city.post_office.log.values import Provisional, Withdrawn
from smart_city.vocabulary import Position
from tests.support.inboxes import a_question, an_inbox, holders, texts
from tests.support.logs import ALog, an_entry
from tests.support.replication import Pair
from tests.support.valkey import plainly
from tests.support.waiting import eventually, until


@pytest.fixture
async def copied(replicated: Pair) -> AsyncIterator[Valkey]:
    """A client that waits for a replica, quick to give up."""
    valkey = await Valkey.connect(replicated.primary.url, ack_replicas=1, timeout=0.5)
    await valkey.command("FLUSHALL")
    yield valkey
    await valkey.close()


async def until_logged(valkey: Valkey, tasks: Tasks, offset: int) -> None:
    reader = ALog(valkey, tasks)

    async def is_logged() -> bool:
        return (await reader.read("guide", None)).newest.offset == offset

    await eventually(is_logged, "the primary has logged it")


async def test_a_publication_waits_for_the_replica_and_is_logged_once(
    replicated: Pair, copied: Valkey, tasks: Tasks
) -> None:
    log = ALog(copied, tasks)
    replicated.replica.hang()
    waiting = asyncio.create_task(log.append_now("guide", an_entry()))
    await until_logged(copied, tasks, 1)
    assert not waiting.done()
    replicated.replica.resume()
    assert (await waiting).offset == 1
    assert (await log.read("guide", None)).newest.offset == 1


async def test_what_no_replica_takes_is_held_for_its_sender_alone(
    replicated: Pair, copied: Valkey, tasks: Tasks
) -> None:
    log, told = ALog(copied, tasks), list[object]()
    first, second = an_entry(), an_entry()
    replicated.replica.hang()
    log.append("guide", first, told.append)
    await until(lambda: told == [Held(first.message_id)], "it is held")
    assert log.told_on == [], "its subscribers have it already"
    assert (await log.read("guide", None)).newest.offset == 1
    log.append("guide", second, told.append)
    await until(lambda: len(told) == 2, "what comes behind it is held, too")
    assert [news.entries for news in log.told_on if isinstance(news, Provisional)] == [(second,)]
    replicated.replica.resume()
    await until(lambda: len(told) == 4, "both have their final word", seconds=10)
    assert [each.offset for each in told if isinstance(each, Appended)] == [1, 2]
    assert not any(isinstance(news, Withdrawn) for news in log.told_on)


async def test_a_held_one_that_is_given_up_is_not_taken_back_from_its_subscribers(
    replicated: Pair, copied: Valkey, tasks: Tasks
) -> None:
    log = ALog(copied, tasks, keep=Keep(seconds=0.5, after=0.5))
    replicated.replica.hang()
    with pytest.raises(Unavailable):
        await log.append_now("guide", an_entry(key="alice/k", digest="d"))
    assert log.told_on == []
    replicated.replica.resume()
    await replicated.until_in_touch()
    again = await log.append_now("guide", an_entry(key="alice/k", digest="d"))
    assert (again.offset, again.duplicate) == (1, True)


async def test_a_duplicate_waits_for_what_it_is_a_duplicate_of(replicated: Pair, copied: Valkey, tasks: Tasks) -> None:
    other = await Valkey.connect(replicated.primary.url)
    log = ALog(copied, tasks)
    await log.append_now("elsewhere", an_entry())
    replicated.replica.hang()
    first = await ALog(other, tasks).append_now("guide", an_entry(key="alice/k", digest="d"))
    waiting = asyncio.create_task(log.append_now("guide", an_entry(key="alice/k", digest="d")))
    await asyncio.wait({waiting}, timeout=0.5)
    assert not waiting.done()
    replicated.replica.resume()
    assert await waiting == replace(first, duplicate=True)
    await other.close()


async def test_a_repeat_on_another_connection_waits_as_well(replicated: Pair, copied: Valkey, tasks: Tasks) -> None:
    log = ALog(copied, tasks)
    replicated.replica.hang()
    waiting = asyncio.create_task(log.append_now("guide", an_entry()))
    await until_logged(copied, tasks, 1)
    async with plainly(copied) as client:
        await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # type: ignore[no-untyped-call]
    await asyncio.wait({waiting}, timeout=0.5)
    assert not waiting.done()
    replicated.replica.resume()
    assert (await waiting).offset == 1
    assert len((await log.read("guide", Position(0))).entries) == 1


async def test_a_question_waits_for_the_replica_and_is_asked_once(
    replicated: Pair, copied: Valkey, tasks: Tasks
) -> None:
    inbox, told = an_inbox(copied, tasks), list[object]()
    question = a_question("lost?")
    replicated.replica.hang()
    inbox.send(question, told.append)
    await until(lambda: told == [Held(question.message_id)], "it is held")
    assert (await inbox.status("guide")).depth == 1
    replicated.replica.resume()
    await until(lambda: told[1:] == [Queued(question.message_id)], "it is queued", seconds=10)
    assert texts(await inbox.take("guide", holders("one|a", "one|a"))) == ["lost?"]
