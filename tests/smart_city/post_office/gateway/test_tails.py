"""Comparing feeds with their logs: together, again when the log did not answer, and not where nobody listens."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from foundations.errors import Unavailable
from foundations.supervision import Tasks
from foundations.valkey.client import Valkey
from smart_city.post_office.gateway import tails as tails_module
from smart_city.post_office.gateway.feed import Feed
from smart_city.post_office.gateway.tails import Tails
from smart_city.vocabulary import Position
from tests.support.hubs import Nobody
from tests.support.logs import ALog, an_entry
from tests.support.waiting import until


class SometimesAway(ALog):
    """A log that first refuses so many times; it remembers what it was asked."""

    refusals = 0

    def __init__(self, valkey: Valkey, tasks: Tasks) -> None:
        super().__init__(valkey, tasks)
        self.asked: list[list[str]] = []

    async def newest(self, channels: Sequence[str]) -> dict[str, Position]:
        self.asked.append(sorted(channels))
        if len(self.asked) <= self.refusals:
            raise Unavailable("Valkey does not answer")
        return await super().newest(channels)


@pytest.fixture
def log(valkey: Valkey, tasks: Tasks) -> SometimesAway:
    return SometimesAway(valkey, tasks)


def a_tail_check(log: SometimesAway, tasks: Tasks, *channels: str) -> tuple[Tails, dict[str, Feed], list[str]]:
    feeds = {channel: Feed(channel, Nobody()) for channel in channels}
    repaired: list[str] = []
    return Tails(log, tasks, feeds, lambda feed: repaired.append(feed.channel)), feeds, repaired


async def test_only_feeds_that_are_elsewhere_are_repaired(log: SometimesAway, tasks: Tasks) -> None:
    tails, feeds, repaired = a_tail_check(log, tasks, "guide", "pillar:content", "connection:unwritten")
    for channel in ("guide", "pillar:content"):
        appended = await log.append_now(channel, an_entry())
        feeds[channel].position = Position(appended.offset, appended.epoch)
    await log.append_now("guide", an_entry())
    tails.check(feeds)
    await until(lambda: bool(repaired), "one is repaired")
    assert (repaired, len(log.asked)) == (["guide"], 1)


async def test_the_same_offset_of_another_life_is_elsewhere(log: SometimesAway, tasks: Tasks) -> None:
    tails, feeds, repaired = a_tail_check(log, tasks, "guide")
    appended = await log.append_now("guide", an_entry())
    feeds["guide"].position = Position(appended.offset, "lost")
    tails.check(feeds)
    await until(lambda: bool(repaired), "it is repaired")


async def test_what_comes_into_doubt_in_one_turn_is_asked_for_together(log: SometimesAway, tasks: Tasks) -> None:
    tails, feeds, _ = a_tail_check(log, tasks, "guide", "pillar:a", "pillar:b")
    for channel in feeds:
        tails.check([channel])
    await until(lambda: len(tasks) == 0, "it is done")
    assert log.asked == [["guide", "pillar:a", "pillar:b"]]


async def test_many_are_asked_for_in_pieces(log: SometimesAway, tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tails_module, "AT_ONCE", 2)
    tails, feeds, _ = a_tail_check(log, tasks, *(f"pillar:p{number}" for number in range(5)))
    tails.check(feeds)
    await until(lambda: len(tasks) == 0, "it is done")
    assert sorted(map(len, log.asked)) == [1, 2, 2]
    assert sorted(channel for asked in log.asked for channel in asked) == sorted(feeds)


async def test_while_the_log_does_not_answer_it_stays_in_doubt(log: SometimesAway, tasks: Tasks) -> None:
    log.refusals = 2
    tails, feeds, repaired = a_tail_check(log, tasks, "guide", "pillar:a")
    await log.append_now("guide", an_entry())
    tails.check(feeds)
    await until(lambda: len(log.asked) == 1, "it was refused")
    del feeds["pillar:a"]
    await until(lambda: bool(repaired), "it is found behind at last")
    assert log.asked == [["guide", "pillar:a"], ["guide"], ["guide"]]
    assert repaired == ["guide"]


async def test_nothing_is_asked_where_nobody_listens(log: SometimesAway, tasks: Tasks) -> None:
    tails, _, _ = a_tail_check(log, tasks)
    tails.check([])
    assert len(tasks) == 0


async def test_every_feed_is_doubted_once_in_a_while(log: SometimesAway, tasks: Tasks) -> None:
    tails, feeds, repaired = a_tail_check(log, tasks, "guide")
    tails.start(0.01, 0.01)
    await until(lambda: len(log.asked) >= 2, "it is compared again and again")
    assert repaired == []
    await log.append_now("guide", an_entry())
    await until(lambda: bool(repaired), "it is found behind")
    feeds.clear()


async def test_private_logs_have_their_turns_and_the_others_every_turn(log: SometimesAway, tasks: Tasks) -> None:
    tails, feeds, _ = a_tail_check(log, tasks, "guide", *(f"user:u{number}" for number in range(60)))
    tails.start(0.01, 0.04)
    await until(lambda: set().union(*log.asked) == set(feeds), "everything had its turn")
    feeds.clear()
    assert all("guide" in asked for asked in log.asked)
    assert len(log.asked[0]) < 40
