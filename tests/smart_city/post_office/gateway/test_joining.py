"""Joining: the ack names a place, and what follows it is everything after that place, or a reset."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from foundations.errors import Unavailable
from foundations.valkey.client import Valkey
from smart_city.post_office.gateway.pages import READS_AT_ONCE
from smart_city.post_office.gateway.recent import RECENT_BYTES
from smart_city.post_office.log import Page
from smart_city.vocabulary import Position
from tests.support.hubs import Instance, Listener, Place, instances
from tests.support.lives import begin_new_life, copy_of
from tests.support.logs import some_limits
from tests.support.telling import Telling
from tests.support.waiting import eventually, until


@pytest.fixture
async def one(valkey: Valkey) -> AsyncIterator[Instance]:
    async with instances(valkey) as (instance,):
        yield instance


@pytest.fixture
async def pair(valkey: Valkey) -> AsyncIterator[list[Instance]]:
    """One instance that publishes, and one whose bus may have accidents."""
    async with instances(valkey, 2) as both:
        yield both


async def got(place: Place, offsets: list[int]) -> None:
    await until(lambda: place.listener.offsets[-1:] == offsets[-1:], f"{offsets[-1:]} arrives")
    assert place.listener.offsets == offsets


async def live(place: Place) -> None:
    await until(lambda: place.is_live, "the subscription is where its feed is")


async def quiet(instance: Instance) -> None:
    await until(lambda: len(instance.tasks) <= 2, "all work in the background has ended")


# Where a subscription begins


async def test_without_a_position_it_begins_at_the_newest(one: Instance) -> None:
    newest = await one.publish("guide", 3)
    place = await one.join("guide")
    assert (place.start, place.joined.recovered, place.is_live) == (newest, None, True)
    await one.publish("guide")
    assert place.listener.offsets == [4]


async def test_at_the_newest_position_nothing_was_missed_and_the_log_is_not_asked(one: Instance) -> None:
    newest = await one.publish("guide", 3)
    await one.join("guide")
    before = one.log.reads
    place = await one.join("guide", newest)
    assert (place.start, place.joined.recovered, place.joined.missed) == (newest, True, 0)
    assert (place.is_live, one.log.reads) == (True, before)


async def test_from_an_earlier_position_what_was_missed_comes_first(one: Instance) -> None:
    start = await one.publish("guide", 2)
    await one.publish("guide", 5)
    place = await one.join("guide", start)
    assert (place.start, place.joined.recovered, place.joined.missed) == (start, True, 5)
    await live(place)
    await one.publish("guide")
    assert place.listener.offsets == [3, 4, 5, 6, 7, 8]


async def test_from_the_beginning_of_a_log_that_begins_at_1(one: Instance) -> None:
    await one.publish("guide", 2)
    place = await one.join("guide", Position(0))
    assert (place.start.offset, place.joined.recovered, place.joined.missed) == (0, True, 2)
    await got(place, [1, 2])


async def test_a_bare_offset_is_acknowledged_and_followed_with_the_epochs_of_the_chain(
    one: Instance, valkey: Valkey
) -> None:
    positions = [await one.publish("guide")]
    for _ in range(3):
        await begin_new_life(valkey)
        positions.append(await one.publish("guide"))
    place = await one.join("guide", Position(1))
    assert (place.start, place.joined.missed) == (positions[0], 3)
    await got(place, [2, 3, 4])
    assert [Position(frame["offset"], frame["epoch"]) for frame in place.listener.publications] == positions[1:]


async def test_an_earlier_epoch_is_good_while_what_followed_in_it_survives(
    pair: list[Instance], valkey: Valkey
) -> None:
    writer, hearer = pair
    kept = await writer.publish("guide", 2)
    copy = await copy_of(valkey)
    lost = await writer.publish("guide", 2)
    await begin_new_life(valkey, copy)
    newest = await writer.publish("guide", 3)
    good = await hearer.join("guide", kept)
    assert (good.start, good.joined.recovered, good.joined.missed) == (kept, True, 3)
    await got(good, [3, 4, 5])
    bad = await hearer.join("guide", lost)
    assert (bad.start, bad.joined.recovered, bad.joined.reason) == (newest, False, "diverged")
    assert bad.listener.frames == []


@pytest.mark.parametrize(
    ("since", "reason"),
    [(Position(1, "nobody"), "unknown_epoch"), (Position(99), "future"), (Position(0), "trimmed")],
)
async def test_a_position_that_is_not_good_begins_at_the_newest_and_says_why(
    valkey: Valkey, since: Position, reason: str
) -> None:
    async with instances(valkey, limits=some_limits(count=3)) as (one,):
        newest = await one.publish("guide", 10)
        place = await one.join("guide", since)
        assert (place.start, place.joined.recovered, place.joined.reason) == (newest, False, reason)
        await live(place)
        await one.publish("guide")
        assert (place.listener.offsets, place.listener.resets) == ([11], [])


async def test_a_log_away_while_joining_leaves_nothing(one: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = await one.hub.open("guide")

    async def refuse(*asked: object, **how: object) -> object:
        raise Unavailable("Valkey does not answer")

    monkeypatch.setattr(one.log, "read", refuse)
    with pytest.raises(Unavailable):
        await one.joining.prepare("guide", Position(1, "x"))
    assert feed.holders == 1


async def test_what_was_prepared_may_be_given_back(one: Instance) -> None:
    feed, _ = await one.joining.prepare("guide", None)
    one.joining.give_back(feed)

    async def is_left() -> bool:
        return await one.listeners_at("guide") == 0

    await eventually(is_left, "the feed is closed")


# Between the ack and the first frame


async def test_what_comes_between_preparing_and_beginning_is_not_skipped(one: Instance) -> None:
    newest = await one.publish("guide", 2)
    for since in (None, newest, Position(1, newest.epoch)):
        first = (await one.log.newest(["guide"]))["guide"].offset
        feed, page = await one.joining.prepare("guide", since)
        await one.publish("guide", 3)
        listener = Listener()
        place = Place(one, feed, one.joining.decide(feed, page, listener, since), listener)
        one.joining.begin(feed, place.joined)
        await one.publish("guide")
        last = first + 4
        await got(place, list(range((last - 1 if since is None else place.start.offset) + 1, last + 1)))
        place.leave()


async def test_a_subscriber_ahead_of_its_feed_waits_for_it_without_reading_for_ever(pair: list[Instance]) -> None:
    writer, hearer = pair
    watcher = await hearer.join("guide")
    hearer.bus.fate = lambda: "lose"
    newest = await writer.publish("guide", 3)
    before = hearer.log.reads
    place = await hearer.join("guide", newest)
    assert (place.start, place.joined.recovered, place.joined.missed) == (newest, True, 0)
    await live(place)
    assert hearer.log.reads - before < 8
    hearer.bus.fate = lambda: "pass"
    await writer.publish("guide")
    await got(place, [4])
    await got(watcher, [1, 2, 3, 4])


async def test_a_subscriber_of_the_new_life_corrects_a_feed_of_the_old_one(
    pair: list[Instance], valkey: Valkey
) -> None:
    """The feed stood further on, in a life that the store has lost: the log was read for ever."""
    writer, hearer = pair
    watcher = await hearer.join("guide")
    await writer.publish("guide")
    copy = await copy_of(valkey)
    await writer.publish("guide", 5)
    await got(watcher, [1, 2, 3, 4, 5, 6])
    hearer.bus.fate = lambda: "lose"
    await begin_new_life(valkey, copy)
    since = await writer.publish("guide", 2)
    newest = await writer.publish("guide")
    before = hearer.log.reads
    place = await hearer.join("guide", since)
    assert (place.start, place.joined.recovered, place.joined.missed) == (since, True, 1)
    await got(place, [4])
    await live(place)
    assert hearer.log.reads - before < 8
    reset = watcher.listener.resets[0]
    assert (Position(reset["offset"], reset["epoch"]), reset["reason"]) == (newest, "diverged")
    lost = await hearer.join("guide", Position(6, watcher.listener.publications[-1]["epoch"]))
    assert (lost.start, lost.joined.reason) == (newest, "diverged")


async def test_a_feed_at_the_same_offset_of_a_lost_life_is_no_place_to_join(
    pair: list[Instance], valkey: Valkey
) -> None:
    writer, hearer = pair
    watcher = await hearer.join("guide")
    await writer.publish("guide")
    copy = await copy_of(valkey)
    await writer.publish("guide")
    await got(watcher, [1, 2])
    hearer.bus.fate = lambda: "lose"
    await begin_new_life(valkey, copy)
    since = await writer.publish("guide")
    place = await hearer.join("guide", since)
    assert (place.start, place.joined.recovered, place.joined.missed) == (since, True, 0)
    await live(place)
    await until(lambda: bool(watcher.listener.resets), "the other one is reset")
    assert place.listener.frames == []


# Catching up


async def test_epochs_that_pages_and_live_frames_name_are_those_of_the_chain(one: Instance, valkey: Valkey) -> None:
    start = await one.publish("guide")
    expected = []
    for _ in range(4):
        expected += [await one.publish("guide") for _ in range(3)]
        await begin_new_life(valkey)
    place = await one.join("guide", start)
    await live(place)
    expected.append(await one.publish("guide"))
    await got(place, list(range(2, 15)))
    frames = place.listener.publications
    assert [Position(frame["offset"], frame["epoch"]) for frame in frames] == expected


async def test_a_long_history_comes_in_pieces_as_the_client_takes_them(one: Instance) -> None:
    await asyncio.gather(*(one.publish("guide", size=10_000) for _ in range(40)))
    listener = Listener()
    listener.road.clear()
    place = await one.join("guide", Position(0), listener=listener)
    before = one.log.reads
    await one.publish("guide", 20)
    assert (listener.frames, one.log.reads, place.joined.missed) == ([], before, 40)
    listener.road.set()
    await got(place, list(range(1, 61)))
    assert listener.replayed > 4


async def test_a_busy_channel_can_be_joined_in_motion(pair: list[Instance]) -> None:
    """A channel that always moves between reading and comparing once let nobody in."""
    writer, hearer = pair
    await writer.publish("guide", 5)
    watcher = await hearer.join("guide")
    read = hearer.log.read

    async def read_and_move(*asked: object, **how: object) -> object:
        page = await read(*asked, **how)  # type: ignore[arg-type]
        last = await writer.publish("guide", 3)
        await until(lambda: watcher.feed.position == last, "the feed has moved on")
        return page

    hearer.log.read = read_and_move  # type: ignore[method-assign, assignment]
    place = await hearer.join("guide", Position(0))
    await live(place)
    assert hearer.log.reads < 8
    hearer.log.read = read  # type: ignore[method-assign]
    last = await writer.publish("guide")
    await got(place, list(range(1, last.offset + 1)))
    assert place.feed.recent is None


class Moving(Listener):
    """A client to which the channel moves while it takes old frames, so many times."""

    def __init__(self, writer: Instance, watcher: Place, times: int) -> None:
        super().__init__()
        self.writer = writer
        self.watcher = watcher
        self.times = times

    async def replay(self, frames: bytes) -> None:
        await super().replay(frames)
        if self.times:
            self.times -= 1
            last = await self.writer.publish("guide", 2)
            await until(lambda: self.watcher.feed.position == last, "the feed has moved on")


async def test_a_channel_that_moves_while_recent_frames_are_taken_leaves_no_hole(pair: list[Instance]) -> None:
    writer, hearer = pair
    await writer.publish("guide", 3)
    watcher = await hearer.join("guide")
    before = hearer.log.reads
    place = await hearer.join("guide", Position(0), listener=Moving(writer, watcher, 6))
    await live(place)
    assert place.listener.offsets == list(range(1, 16))
    assert hearer.log.reads == before + 1


async def test_one_who_catches_up_slower_than_frames_are_remembered_reads_on(pair: list[Instance]) -> None:
    writer, hearer = pair
    await writer.publish("guide", 2)
    listener = Listener()
    listener.road.clear()
    place = await hearer.join("guide", Position(0), listener=listener)
    await writer.publish("guide", 9, size=RECENT_BYTES // 3)
    await until(lambda: place.feed.position.offset == 11, "the feed has moved on")
    listener.road.set()
    await got(place, list(range(1, 12)))
    await live(place)


async def test_a_crowd_that_comes_back_leaves_the_store_room_for_what_is_said_now(one: Instance) -> None:
    crowd = range(4 * READS_AT_ONCE)
    await asyncio.gather(*(one.publish("guide", size=1_000) for _ in (*crowd, 0)))
    one.log.most_at_once = 0
    coming = [asyncio.create_task(one.join("guide", Position(number))) for number in crowd]
    await until(lambda: one.log.reading == READS_AT_ONCE, "they are on their way")
    said = await one.publish("guide")
    for number, place in enumerate(await asyncio.gather(*coming)):
        await got(place, list(range(number + 1, said.offset + 1)))
    assert one.log.most_at_once == READS_AT_ONCE


async def test_a_crowd_that_comes_back_to_one_place_shares_one_reading(one: Instance) -> None:
    await asyncio.gather(*(one.publish("guide", size=10_000) for _ in range(20)))
    holder = await one.join("guide")
    before = one.log.reads
    coming = [asyncio.create_task(one.join("guide", Position(0))) for _ in range(100)]
    for place in await asyncio.gather(*coming):
        await got(place, list(range(1, 21)))
        assert (place.joined.recovered, place.joined.missed) == (True, 20)
    assert one.log.reads - before < 20
    holder.leave()


async def test_who_comes_in_while_a_page_is_read_is_told_of_what_was_said_meanwhile(one: Instance) -> None:
    """Else it might know of more than it is told, and its position would be one of the future."""
    await one.publish("guide")
    holder = await one.join("guide")
    read, gate, done = one.log.read, asyncio.Event(), []

    async def read_slowly(*asked: Any, **how: Any) -> Page:
        page = await read(*asked, **how)
        done.append(page)
        await gate.wait()
        return page

    one.log.read = read_slowly  # type: ignore[method-assign]
    early = asyncio.create_task(one.join("guide", Position(0)))
    await until(lambda: bool(done), "the page is read")
    there = await one.publish("guide")
    late = asyncio.create_task(one.join("guide", Position(0)))
    await until(lambda: len(done) == 2, "it is read again")
    gate.set()
    assert ((await late).joined.recovered, (await late).joined.missed) == (True, there.offset)
    await got(await early, [1, 2])
    holder.leave()


# Lagging


def lags(place: Place) -> None:
    """From now on it takes nothing, until its road is open again."""
    place.listener.road.clear()
    place.falls_back()


async def test_who_lags_is_sent_nothing_and_then_all_of_it_while_others_do_not_wait(one: Instance) -> None:
    slow, quick = await one.join("guide"), await one.join("guide")
    await one.publish("guide", 2)
    await got(quick, [1, 2])
    lags(slow)
    await one.publish("guide", 50)
    await got(quick, list(range(1, 53)))
    assert slow.listener.offsets == [1, 2]
    slow.listener.road.set()
    await got(slow, list(range(1, 53)))
    await live(slow)
    await one.publish("guide")
    await got(slow, list(range(1, 54)))


async def test_each_log_of_one_who_lags_has_its_own_position(one: Instance) -> None:
    listener = Listener()
    places = [await one.join(channel, listener=listener) for channel in ("guide", "pillar:content")]
    await one.publish("guide", 3)
    await until(lambda: listener.offsets == [1, 2, 3], "they are heard")
    for place in places:
        lags(place)
    await asyncio.gather(one.publish("guide", 2), one.publish("pillar:content", 4))
    listener.road.set()
    await until(lambda: len(listener.offsets) == 9, "all is there")
    assert sorted(listener.offsets[3:]) == [1, 2, 3, 4, 4, 5]


async def test_who_subscribes_while_it_lags_is_fed_from_where_its_ack_says(one: Instance) -> None:
    listener = Listener()
    listener.road.clear()
    place = await one.join("guide", listener=listener)
    assert not place.is_live
    await one.publish("guide", 3)
    listener.road.set()
    await got(place, [1, 2, 3])
    await live(place)


async def test_a_log_trimmed_while_a_subscriber_lags_resets_it(valkey: Valkey) -> None:
    async with instances(valkey, limits=some_limits(count=4)) as (one,):
        slow = await one.join("guide")
        await one.publish("guide", 2)
        await got(slow, [1, 2])
        lags(slow)
        newest = await one.publish("guide", 9)
        slow.listener.road.set()
        await until(lambda: bool(slow.listener.resets), "the reset")
        reset = slow.listener.resets[0]
        assert (reset["offset"], reset["epoch"], reset["reason"]) == (*newest, "trimmed")
        last = await one.publish("guide")
        await until(lambda: slow.listener.offsets == [1, 2, last.offset], "what follows")


async def test_one_who_lags_twice_before_it_has_caught_up_misses_nothing(one: Instance) -> None:
    slow = await one.join("guide")
    for _ in range(5):
        lags(slow)
        await asyncio.gather(*(one.publish("guide", size=10_000) for _ in range(10)))
        slow.listener.road.set()
        await asyncio.sleep(0)
    await got(slow, list(range(1, 51)))


async def test_a_log_trimmed_before_a_slow_subscriber_has_read_it_resets_it(valkey: Valkey) -> None:
    async with instances(valkey, limits=some_limits(count=4)) as (one,):
        await one.publish("guide", 2)
        feed, page = await one.joining.prepare("guide", Position(1))
        listener = Listener()
        joined = one.joining.decide(feed, page, listener, Position(1))
        newest = await one.publish("guide", 9)
        one.joining.begin(feed, joined)
        await until(lambda: bool(listener.resets), "the reset")
        reset = listener.resets[0]
        assert (Position(reset["offset"], reset["epoch"]), reset["reason"]) == (newest, "trimmed")
        assert listener.offsets == [2]
        await until(lambda: joined.subscription in feed.live, "it is live")
        await one.publish("guide")
        assert listener.offsets == [2, 12]


async def test_a_log_replaced_before_a_slow_subscriber_has_read_it_resets_it(
    pair: list[Instance], valkey: Valkey
) -> None:
    writer, hearer = pair
    await writer.publish("guide", 2)
    copy = await copy_of(valkey)
    newest = await writer.publish("guide", 2)
    listener = Listener()
    listener.road.clear()
    place = await hearer.join("guide", Position(1, newest.epoch), listener=listener)
    await begin_new_life(valkey, copy)
    newest = await writer.publish("guide")
    listener.road.set()
    await until(lambda: bool(listener.resets), "the reset")
    assert listener.offsets == [2, 3, 4]
    reset = listener.resets[0]
    assert (Position(reset["offset"], reset["epoch"]), reset["reason"]) == (newest, "diverged")
    await live(place)


async def test_catching_up_goes_on_when_the_log_answers_again(pair: list[Instance]) -> None:
    writer, hearer = pair
    await writer.publish("guide", 2)
    feed, page = await hearer.joining.prepare("guide", Position(1))
    await writer.publish("guide", 2)
    await until(lambda: feed.position.offset == 4, "the feed has moved on")
    read = hearer.log.read
    refusals = iter([Unavailable("away"), Unavailable("still away")])

    async def refuse_twice(*asked: object, **how: object) -> object:
        for refusal in refusals:
            raise refusal
        return await read(*asked, **how)  # type: ignore[arg-type]

    hearer.log.read = refuse_twice  # type: ignore[method-assign, assignment]
    listener = Listener()
    place = Place(hearer, feed, hearer.joining.decide(feed, page, listener, Position(1)), listener)
    hearer.joining.begin(feed, place.joined)
    await got(place, [2, 3, 4])


async def test_a_subscription_that_moved_is_sent_nothing_from_where_it_was(one: Instance) -> None:
    """A replay that waited for its client was written after the new ack."""
    await one.publish("guide", 6)
    listener = Listener()
    listener.road.clear()
    first = await one.join("guide", Position(0), listener=listener)
    await until(lambda: first.subscription.work is not None, "it is on its way")
    for _ in range(3):
        await asyncio.sleep(0)
    second = await one.join("guide", Position(4), listener=listener)
    first.leave()
    listener.road.set()
    await got(second, [5, 6])
    assert await one.listeners_at("guide") == 1


async def test_whoever_leaves_at_any_moment_gets_nothing_more_and_leaves_nothing(pair: list[Instance]) -> None:
    writer, hearer = pair
    await writer.publish("guide", 20)
    for turns in range(0, 40, 3):
        place = await hearer.join("guide", Position(3))
        writing = asyncio.create_task(writer.publish("guide", 2))
        for _ in range(turns):
            await asyncio.sleep(0)
        place.leave()
        before = len(place.listener.frames)
        await writing
        await quiet(hearer)
        assert len(place.listener.frames) == before

    async def is_left() -> bool:
        return await hearer.listeners_at("guide") == 0

    await eventually(is_left, "nothing is heard any more")


# Answers in parts


async def test_parts_reach_who_was_there_from_the_start(pair: list[Instance]) -> None:
    teller, hearer = pair
    place = await hearer.join("user:ann")
    telling = Telling(teller, "user:ann")
    await telling.start()
    await telling.go_on(3)
    await telling.end()
    await until(lambda: "end" in telling.heard_in(place.listener.frames), "the end")
    assert telling.heard_in(place.listener.frames) == ["start", 1, 2, 3, "end"]


async def test_who_joins_in_the_middle_gets_the_text_so_far_and_then_the_parts_after_it(pair: list[Instance]) -> None:
    teller, hearer = pair
    telling = Telling(teller, "user:ann")
    await telling.start()
    await telling.go_on(2)
    place = await hearer.join("user:ann")
    await until(lambda: bool(place.listener.deltas), "the snapshot")
    await telling.go_on(2)
    await until(lambda: 4 in telling.heard_in(place.listener.frames), "the last part")
    assert telling.heard_in(place.listener.frames) == ["..2", 3, 4]


async def test_who_joins_a_feed_on_which_an_answer_began_gets_its_text_before_its_first_part(
    pair: list[Instance],
) -> None:
    """The agent thinks: the start is told, a part is not, and nothing on the bus has named the answer."""
    teller, hearer = pair
    first = await hearer.join("user:ann")
    telling = Telling(teller, "user:ann")
    await telling.start()
    await got(first, [1])
    place = await hearer.join("user:ann")
    await until(lambda: bool(place.listener.deltas), "the snapshot")
    await telling.go_on(2)
    await until(lambda: 2 in telling.heard_in(place.listener.frames), "the last part")
    assert telling.heard_in(place.listener.frames) == ["..0", 1, 2]


async def test_joining_a_feed_on_which_nothing_was_ever_said_asks_the_log_no_more(one: Instance) -> None:
    await one.join("user:ann")
    await one.publish("guide")
    await one.join("guide")
    await one.publish("guide")
    before = one.log.reads
    await one.join("user:ann")
    await one.join("guide")
    await quiet(one)
    assert one.log.reads == before


async def test_every_joiner_gets_every_part_once_whenever_it_comes(pair: list[Instance]) -> None:
    teller, hearer = pair
    tellings = [Telling(teller, "user:ann") for _ in range(3)]
    await asyncio.gather(*(telling.start() for telling in tellings))
    talking = asyncio.gather(*(telling.go_on(150) for telling in tellings))
    places = []
    for part in range(1, 150, 5):
        await until(lambda: all(telling.newest >= part for telling in tellings), f"part {part}")  # noqa: B023
        places.append(await hearer.join("user:ann"))
    await talking
    for place in places:
        for telling in tellings:
            await until(lambda: telling.heard_in(place.listener.frames)[-1:] in ([150], ["..150"]), "the last part")  # noqa: B023
            heard = telling.heard_in(place.listener.frames)
            assert isinstance(heard[0], str)
            reached = int(heard[0][2:])
            assert heard[1:] == list(range(reached + 1, 151))


async def test_nobody_gets_the_text_so_far_after_leaving(one: Instance) -> None:
    telling = Telling(one, "user:ann")
    await telling.start()
    for turns in range(10):
        place = await one.join("user:ann")
        for _ in range(turns):
            await asyncio.sleep(0)
        place.leave()
        before = len(place.listener.frames)
        await quiet(one)
        assert len(place.listener.frames) == before


async def test_a_snapshot_is_taken_when_the_log_answers_again(pair: list[Instance]) -> None:
    teller, hearer = pair
    telling = Telling(teller, "user:ann")
    await telling.start()
    feed, page = await hearer.joining.prepare("user:ann", None)
    read = hearer.log.read
    refusals = iter([Unavailable("away")])

    async def refuse_once(*asked: object, **how: object) -> object:
        for refusal in refusals:
            raise refusal
        return await read(*asked, **how)  # type: ignore[arg-type]

    hearer.log.read = refuse_once  # type: ignore[method-assign, assignment]
    listener = Listener()
    place = Place(hearer, feed, hearer.joining.decide(feed, page, listener, None), listener)
    hearer.joining.begin(feed, place.joined)
    await telling.go_on(1)
    await until(lambda: bool(listener.deltas), "the snapshot")
    assert telling.heard_in(listener.frames) == ["..1"]


async def test_one_who_has_caught_up_gets_the_text_so_far_of_open_answers(pair: list[Instance]) -> None:
    teller, hearer = pair
    telling = Telling(teller, "user:ann")
    await telling.start()
    await telling.go_on(2)
    place = await hearer.join("user:ann", Position(0))
    await until(lambda: bool(place.listener.deltas), "the snapshot")
    await telling.end()
    await until(lambda: "end" in telling.heard_in(place.listener.frames), "the end")
    assert telling.heard_in(place.listener.frames) == ["start", "..2", "end"]


async def test_parts_skipped_by_one_who_lags_come_back_as_the_text_so_far(pair: list[Instance]) -> None:
    teller, hearer = pair
    place, quick = await hearer.join("user:ann"), await hearer.join("user:ann")
    telling = Telling(teller, "user:ann")
    await telling.start()
    await telling.go_on(2)
    await until(lambda: telling.heard_in(place.listener.frames)[-1:] == [2], "the second part")
    lags(place)
    await telling.go_on(3)
    await until(lambda: telling.heard_in(quick.listener.frames)[-1:] == [5], "the others do not wait")
    assert telling.heard_in(place.listener.frames) == ["start", 1, 2]
    place.listener.road.set()
    await until(lambda: telling.heard_in(place.listener.frames)[-1:] == ["..5"], "the text so far")
    await telling.go_on(1)
    await until(lambda: telling.heard_in(place.listener.frames)[-1:] == [6], "the next part")
    assert telling.heard_in(place.listener.frames) == ["start", 1, 2, "..5", 6]


@pytest.mark.parametrize("seed", range(4))
async def test_however_one_lags_it_ends_up_with_the_whole_text_and_every_offset(
    pair: list[Instance], seed: int
) -> None:
    teller, hearer = pair
    chance = random.Random(seed)  # noqa: S311  # keeps no secret
    place = await hearer.join("user:ann")
    telling = Telling(teller, "user:ann")
    await telling.start()
    for _ in range(60):
        match chance.choice(("lag", "take", "take", "go on", "go on", "publish", "turn")):
            case "lag":
                lags(place)
            case "take":
                place.listener.road.set()
            case "go on":
                await telling.go_on(chance.randrange(1, 4))
            case "publish":
                await teller.publish("user:ann", chance.randrange(1, 4))
            case _:
                await asyncio.sleep(0)
    place.listener.road.set()
    await telling.go_on(1)
    reached = [telling.newest, f"..{telling.newest}"]
    await until(lambda: telling.heard_in(place.listener.frames)[-1:][0] in reached, "the newest part")
    newest = await teller.publish("user:ann")
    await got(place, list(range(1, newest.offset + 1)))
    known = -1
    for heard in telling.heard_in(place.listener.frames):
        part = 0 if heard == "start" else int(str(heard).removeprefix(".."))
        assert part == known + 1 or (isinstance(heard, str) and part >= known), telling.heard_in(place.listener.frames)
        known = part
