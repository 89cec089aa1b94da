"""When connections are written again: each has its turn, few have the same, and all have it at once where needed."""

from __future__ import annotations

import asyncio
from collections import Counter

from foundations.supervision import Tasks
from smart_city.post_office.fleet.renewal import Renewal
from tests.support.platform import unique
from tests.support.waiting import PATIENCE, until

NAMES = {name: name for name in (unique("c") for _ in range(2000))}


def test_in_one_cycle_everything_has_its_turn_once_and_no_turn_has_much() -> None:
    renewal = Renewal(lease_seconds=5, cycle_seconds=48)
    turns = [renewal.due(NAMES, ()) for _ in range(16)]
    assert Counter(name for turn in turns for name in turn) == Counter(dict.fromkeys(NAMES, 1))
    assert max(len(turn) for turn in turns) < 2 * len(NAMES) / 16


def test_what_is_stale_does_not_wait_for_its_turn() -> None:
    renewal, stale = Renewal(lease_seconds=5, cycle_seconds=48), set(list(NAMES)[:40])
    for _ in range(16):
        assert stale <= set(renewal.due(NAMES, stale))


def test_with_a_cycle_shorter_than_a_lease_every_turn_is_everybodys() -> None:
    renewal = Renewal(lease_seconds=5, cycle_seconds=1)
    assert set(renewal.due(NAMES, ())) == set(NAMES)


def test_after_an_absence_the_next_turn_is_everybodys() -> None:
    renewal = Renewal(lease_seconds=5, cycle_seconds=48)
    renewal.renew_all()
    assert set(renewal.due(NAMES, ())) == set(NAMES)
    assert len(renewal.due(NAMES, ())) < len(NAMES)


async def test_an_absence_that_is_told_during_a_renewal_is_not_taken_for_done_with_that_one(tasks: Tasks) -> None:
    renewal, began, told = Renewal(lease_seconds=0.1, cycle_seconds=4.8), asyncio.Event(), asyncio.Event()
    written: list[int] = []

    async def renew() -> None:
        written.append(len(renewal.due(NAMES, ())))
        began.set()
        await told.wait()

    tasks.start("renew", lambda: renewal.keep(renew, then=lambda: None))
    async with asyncio.timeout(PATIENCE):
        await began.wait()
    renewal.renew_all()
    told.set()
    await until(lambda: len(written) > 1, "another renewal")
    assert written[1] == len(NAMES)
