"""Telling an instance what was taken over from it, also when the store or the bus is away for a moment."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from foundations.errors import Unavailable
from foundations.supervision import Tasks
from foundations.valkey import Subscriptions, Valkey
from foundations.valkey.client import Argument
from smart_city.post_office.fleet import takeovers
from smart_city.post_office.fleet.takeovers import Takeovers
from tests.support.platform import unique
from tests.support.waiting import until


@pytest.fixture
async def subscriptions(valkey: Valkey, tasks: Tasks) -> AsyncIterator[Subscriptions]:
    subscriptions = Subscriptions(valkey, tasks)
    await subscriptions.start()
    yield subscriptions
    await subscriptions.close()


async def test_an_instance_that_could_not_be_told_is_told_again(
    valkey: Valkey, subscriptions: Subscriptions, tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeovers, "AGAIN_SECONDS", 0.01)
    holder, heard, refused = unique("member"), list[tuple[str, int]](), list[str]()
    here = Takeovers(valkey, subscriptions, tasks, member=holder)
    here.heard.append(lambda connection_id, fence: heard.append((connection_id, fence)))
    await here.start()
    command = valkey.command

    async def refuse_once(*args: Argument) -> object:
        if not refused:
            refused.append(str(args[0]))
            raise Unavailable("the store did not answer")
        return await command(*args)

    monkeypatch.setattr(valkey, "command", refuse_once)
    Takeovers(valkey, subscriptions, tasks, member=unique("member")).tell(holder, "c1", 2)
    await until(lambda: heard == [("c1", 2)], "it is told")
    assert refused == ["SPUBLISH"]


async def test_an_instance_that_was_deaf_for_a_moment_knows_that_it_may_have_missed_something(
    valkey: Valkey, subscriptions: Subscriptions, tasks: Tasks
) -> None:
    times = list[None]()
    here = Takeovers(valkey, subscriptions, tasks, member=unique("member"))
    here.heard_again.append(lambda: times.append(None))
    await here.start()
    before = len(times)
    await valkey.command("CLIENT", "KILL", "TYPE", "pubsub")
    await until(lambda: len(times) > before, "it hears again")
