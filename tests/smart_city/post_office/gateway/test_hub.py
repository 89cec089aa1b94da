"""The hub: whatever happens to messages, feeds and stores, publications come once and in order, or a reset says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import chain, repeat

import pytest

from foundations.errors import Unavailable
from foundations.supervision import Tasks
from foundations.valkey.client import Valkey
from foundations.valkey.ear import Ear
from smart_city.post_office.gateway import openings
from smart_city.post_office.gateway.hub import BUFFERED, REPAIRS_AT_ONCE
from smart_city.post_office.log import LogLimits, Stretch
from smart_city.post_office.log.bus import bus_channel
from smart_city.post_office.log.values import Opened
from smart_city.vocabulary import Position
from tests.support.hubs import Fate, Instance, Listener, instances
from tests.support.lives import begin_new_life, copy_of
from tests.support.logs import some_limits
from tests.support.waiting import PATIENCE, eventually, until


@pytest.fixture
async def one(valkey: Valkey) -> AsyncIterator[Instance]:
    async with instances(valkey) as (instance,):
        yield instance


@pytest.fixture
async def pair(valkey: Valkey) -> AsyncIterator[list[Instance]]:
    """One instance that publishes, and one whose bus may have accidents."""
    async with instances(valkey, 2) as both:
        yield both


async def got(listener: Listener, offsets: list[int]) -> None:
    await until(lambda: listener.offsets[-1:] == offsets[-1:], f"{offsets[-1:]} arrives")
    assert listener.offsets == offsets


async def quiet(instance: Instance) -> None:
    """Waits until nothing is done for this instance but what goes on for ever."""
    await until(lambda: len(instance.tasks) <= 2, "all work in the background has ended")


# Publications


async def test_a_publication_of_any_instance_arrives_everywhere_once_and_in_order(pair: list[Instance]) -> None:
    places = [await instance.join("guide") for instance in pair]
    await asyncio.gather(*(instance.publish("guide", 50) for instance in pair))
    for place in places:
        await got(place.listener, list(range(1, 101)))
        frames = place.listener.publications
        assert len({frame["n"] for frame in frames}) == 100
        assert {frame["epoch"] for frame in frames} == {place.start.epoch}


async def test_own_publications_do_not_wait_for_the_bus(pair: list[Instance]) -> None:
    writer, hearer = pair
    writer.bus.fate = lambda: "hold"
    place = await writer.join("guide")
    await hearer.join("guide")
    await writer.publish("guide", 3)
    assert place.listener.offsets == [1, 2, 3]
    await until(lambda: writer.bus.heard == 3, "the bus brings them, too, as another instance listens")
    writer.bus.release()
    assert place.listener.offsets == [1, 2, 3]


async def test_messages_that_come_twice_and_in_any_order_change_nothing(pair: list[Instance]) -> None:
    writer, hearer = pair
    place = await hearer.join("guide")
    fates: Iterator[Fate] = chain(("hold", "double", "hold", "hold", "double"), repeat("hold"))
    hearer.bus.fate = lambda: next(fates)
    await writer.publish("guide", 20)
    await until(lambda: hearer.bus.heard == 20, "all have come")
    hearer.bus.release(1)
    await got(place.listener, list(range(1, 21)))


async def test_what_the_bus_lost_is_read_when_the_next_message_comes(pair: list[Instance]) -> None:
    writer, hearer = pair
    place = await hearer.join("guide")
    hearer.bus.fate = lambda: "lose"
    await writer.publish("guide", 5)
    await until(lambda: hearer.bus.heard == 5, "all were lost")
    hearer.bus.fate = lambda: "pass"
    await writer.publish("guide")
    await got(place.listener, [1, 2, 3, 4, 5, 6])


async def test_the_newest_publication_that_the_bus_lost_is_found_by_comparing(pair: list[Instance]) -> None:
    writer, hearer = pair
    place = await hearer.join("guide")
    hearer.bus.fate = lambda: "lose"
    await writer.publish("guide", 2)
    await until(lambda: hearer.bus.heard == 2, "both were lost")
    hearer.hub.start(0.02, 0.02)
    await got(place.listener, [1, 2])


async def test_what_is_too_large_for_the_bus_is_read_from_the_log(pair: list[Instance]) -> None:
    writer, hearer = pair
    place = await hearer.join("guide")
    await writer.publish("guide", 3, size=70_000)
    await writer.publish("guide")
    await got(place.listener, [1, 2, 3, 4])


async def test_more_than_one_page_that_was_missed_is_read_to_its_end(pair: list[Instance]) -> None:
    writer, hearer = pair
    place = await hearer.join("guide")
    hearer.bus.fate = lambda: "lose"
    await asyncio.gather(*(writer.publish("guide") for _ in range(700)))
    hearer.hub.check_tails()
    await got(place.listener, list(range(1, 701)))
    hearer.bus.fate = lambda: "pass"
    await writer.publish("guide")
    await got(place.listener, list(range(1, 702)))


async def test_more_messages_than_are_kept_while_the_log_is_read_are_read_as_well(pair: list[Instance]) -> None:
    writer, hearer = pair
    place = await hearer.join("guide")
    hearer.bus.fate = lambda: "hold"
    number = BUFFERED + 20
    await writer.publish("guide", number)
    await until(lambda: hearer.bus.heard == number, "all have come")
    hearer.hub.repair(place.feed)
    hearer.bus.release(2)
    await got(place.listener, list(range(1, number + 1)))
    await quiet(hearer)
    assert (place.feed.reading, place.feed.buffer) == (False, ())


async def test_a_log_that_cannot_be_read_is_read_later(pair: list[Instance]) -> None:
    writer, hearer = pair
    place = await hearer.join("guide")
    hearer.bus.fate = lambda: "lose"
    await writer.publish("guide", 2)
    await until(lambda: hearer.bus.heard == 2, "both were lost")
    read = hearer.log.read
    refusals = iter([Unavailable("away"), RuntimeError("a defect")])

    async def refuse_twice(*asked: object, **how: object) -> object:
        for refusal in refusals:
            raise refusal
        return await read(*asked, **how)  # type: ignore[arg-type]

    hearer.log.read = refuse_twice  # type: ignore[method-assign, assignment]
    hearer.hub.repair(place.feed)
    await got(place.listener, [1, 2])


# Opening and closing


async def test_a_log_that_nobody_has_written_to_begins_an_epoch_unless_it_is_fresh(one: Instance) -> None:
    feed = await one.hub.open("guide")
    assert (feed.position.offset, feed.position.epoch != "") == (0, True)
    fresh = await one.hub.open("connection:c1", is_fresh=True)
    assert fresh.position == Position(0, "")
    assert await one.valkey.command("EXISTS", one.valkey.key("log:{connection:c1}:meta")) == 0
    assert one.log.reads == 1


async def test_the_first_publication_in_a_fresh_log_continues_it(pair: list[Instance]) -> None:
    writer, hearer = pair
    place = await hearer.join("connection:c1")
    feed = await hearer.hub.open("connection:c2", is_fresh=True)
    for channel in ("connection:c1", "connection:c2"):
        await writer.publish(channel, 2)
    await got(place.listener, [1, 2])
    await until(lambda: feed.position.offset == 2, "the fresh one is there, too")
    assert hearer.log.reads == 1


async def test_all_who_hold_a_channel_share_its_feed_and_the_last_one_ends_it(one: Instance) -> None:
    feeds = await asyncio.gather(*(one.hub.open("guide") for _ in range(5)))
    assert len(set(map(id, feeds))) == 1
    for feed in feeds[1:]:
        one.hub.close(feed)
    assert await one.listeners_at("guide") == 1
    one.hub.close(feeds[0])

    async def is_left() -> bool:
        return await one.listeners_at("guide") == 0

    await eventually(is_left, "the store is told")
    await quiet(one)


async def test_what_is_published_while_a_feed_opens_is_not_lost(pair: list[Instance]) -> None:
    writer, hearer = pair
    publishing = asyncio.create_task(writer.publish("guide", 300))
    places = [await hearer.join("guide")]
    for _ in range(20):
        places.append(await hearer.join("guide"))
        places.pop(0).leave()
    last = await publishing
    await got(places[0].listener, list(range(places[0].start.offset + 1, last.offset + 1)))


async def test_more_than_is_kept_while_a_feed_opens_is_read_at_once(pair: list[Instance]) -> None:
    writer, hearer = pair
    opened = hearer.log.opened

    async def open_slowly(channels: Sequence[str]) -> dict[str, Opened]:
        found = await opened(channels)
        await writer.publish("guide", BUFFERED + 10)
        await until(lambda: hearer.bus.heard == BUFFERED + 10, "more has come than is kept")
        return found

    hearer.log.opened = open_slowly  # type: ignore[method-assign]
    place = await hearer.join("guide")
    await got(place.listener, list(range(place.start.offset + 1, BUFFERED + 11)))


async def test_a_feed_closed_before_it_was_opened_leaves_nothing(one: Instance) -> None:
    opening = asyncio.create_task(one.hub.open("guide"))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    feed = await one.hub.open("guide")
    assert await one.listeners_at("guide") == 1
    one.hub.close(feed)
    await quiet(one)


@pytest.mark.parametrize("turns", range(12))
async def test_a_feed_closed_and_opened_again_at_any_moment_hears(pair: list[Instance], turns: int) -> None:
    writer, hearer = pair
    opening = asyncio.create_task(hearer.hub.open("guide"))
    for _ in range(turns):
        await asyncio.sleep(0)
    opening.cancel()
    reopening = asyncio.create_task(hearer.join("guide"))
    await asyncio.gather(opening, return_exceptions=True)
    if not opening.cancelled():
        hearer.hub.close(opening.result())
    place = await reopening
    await writer.publish("guide", 2)
    await got(place.listener, [1, 2])
    place.leave()
    await quiet(hearer)


async def test_one_who_stops_waiting_does_not_keep_the_others_from_the_feed(one: Instance) -> None:
    first = asyncio.create_task(one.hub.open("guide"))
    second = asyncio.create_task(one.hub.open("guide"))
    await asyncio.sleep(0)
    first.cancel()
    feed = await second
    assert (first.cancelled() or first.cancelling(), feed.holders) == (1, 1)


async def test_a_feed_closed_while_it_is_repaired_comes_to_rest(pair: list[Instance]) -> None:
    """What was heard meanwhile lay above the position, and was taken up again for ever."""
    writer, hearer = pair
    place = await hearer.join("guide")
    hearer.bus.fate = lambda: "lose"
    await writer.publish("guide", 3)
    await until(lambda: hearer.bus.heard == 3, "they were lost")
    hearer.bus.fate = lambda: "pass"
    answered = asyncio.Event()

    async def refuse_late(*asked: object, **how: object) -> object:
        await answered.wait()
        raise Unavailable("Valkey does not answer")

    hearer.log.read = refuse_late  # type: ignore[method-assign, assignment]
    await writer.publish("guide")
    await until(lambda: place.feed.reading, "the gap is noticed")
    await writer.publish("guide")
    await until(lambda: hearer.bus.heard == 5, "another one comes meanwhile")
    place.leave()
    answered.set()
    await quiet(hearer)
    assert place.listener.frames == []


async def test_a_bus_that_confirms_nothing_refuses_all_who_wait_and_leaves_nothing(
    one: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openings, "OPENING_SECONDS", 0.05)
    monkeypatch.setattr(Ear, "listen", lambda ear, name: None)
    found = await asyncio.gather(*(one.hub.open("guide") for _ in range(3)), return_exceptions=True)
    assert [type(refusal) for refusal in found] == [Unavailable] * 3
    assert len(set(map(id, found))) == 3
    monkeypatch.undo()
    assert (await one.hub.open("guide")).holders == 1


async def test_a_log_that_does_not_answer_refuses_and_leaves_nothing(one: Instance) -> None:
    opened = one.log.opened

    async def refuse(channels: Sequence[str]) -> dict[str, Opened]:
        raise Unavailable("Valkey does not answer")

    one.log.opened = refuse  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await one.hub.open("guide")
    assert await one.listeners_at("guide") == 0
    one.log.opened = opened  # type: ignore[method-assign]
    assert (await one.hub.open("guide")).holders == 1


async def test_a_deaf_instance_opens_nothing(tasks: Tasks, valkey: Valkey) -> None:
    deaf = Instance(valkey, tasks)  # whose bus was not started
    with pytest.raises(Unavailable):
        await deaf.hub.open("guide")
    assert len(tasks) == 0


async def test_a_defect_in_opening_reaches_whoever_waits(one: Instance) -> None:
    await one.bus.listen(bus_channel("guide"), lambda _: None)
    for _ in range(2):
        with pytest.raises(ValueError, match="has a listener already"):
            await one.hub.open("guide")
        await one.bus.listen(bus_channel("guide"), lambda _: None)
    one.bus.leave(bus_channel("guide"))
    assert (await one.hub.open("guide")).holders == 1


# Other lives of the store


async def test_a_new_epoch_continues_and_every_frame_names_its_own(pair: list[Instance], valkey: Valkey) -> None:
    writer, hearer = pair
    place = await hearer.join("guide")
    expected = [await writer.publish("guide")]
    await got(place.listener, [1])
    hearer.bus.fate = lambda: "lose"
    for _ in range(2):
        await begin_new_life(valkey)
        expected.append(await writer.publish("guide"))
    await until(lambda: hearer.bus.heard == 3, "two were lost, and an epoch with each")
    hearer.bus.fate = lambda: "pass"
    await begin_new_life(valkey)
    expected.append(await writer.publish("guide"))
    await got(place.listener, [1, 2, 3, 4])
    assert [Position(frame["offset"], frame["epoch"]) for frame in place.listener.publications] == expected
    assert len({position.epoch for position in expected}) == 4
    assert place.listener.resets == []


async def test_a_lost_tail_is_told_with_the_next_publication(pair: list[Instance], valkey: Valkey) -> None:
    writer, hearer = pair
    place = await hearer.join("guide")
    kept = await writer.publish("guide", 2)
    copy = await copy_of(valkey)
    await writer.publish("guide", 2)
    await got(place.listener, [1, 2, 3, 4])
    await begin_new_life(valkey, copy)
    newest = await writer.publish("guide")
    await until(lambda: bool(place.listener.resets), "the reset")
    reset = place.listener.resets[0]
    assert (Position(reset["offset"], reset["epoch"]), reset["reason"]) == (newest, "diverged")
    again = await writer.publish("guide")
    await until(lambda: len(place.listener.offsets) == 5, "it goes on")
    assert (again.offset, place.listener.offsets) == (kept.offset + 2, [1, 2, 3, 4, 4])


async def test_a_lost_tail_is_told_when_positions_are_compared(pair: list[Instance], valkey: Valkey) -> None:
    writer, hearer = pair
    place = await hearer.join("guide")
    kept = await writer.publish("guide", 2)
    copy = await copy_of(valkey)
    await writer.publish("guide", 2)
    await got(place.listener, [1, 2, 3, 4])
    await begin_new_life(valkey, copy)
    hearer.hub.check_tails()
    await until(lambda: bool(place.listener.resets), "the reset")
    reset = place.listener.resets[0]
    assert (Position(reset["offset"], reset["epoch"]), reset["reason"]) == (kept, "diverged")


async def test_words_from_a_lost_life_are_looked_up_once_and_not_believed(pair: list[Instance], valkey: Valkey) -> None:
    """A message from before a failover, above all that the log has since: it was looked up for ever."""
    writer, hearer = pair
    place = await hearer.join("guide")
    await writer.publish("guide")
    copy = await copy_of(valkey)
    await got(place.listener, [1])
    hearer.bus.fate = lambda: "hold"
    await writer.publish("guide", 5)
    await until(lambda: hearer.bus.heard == 6, "they are on their way")
    await begin_new_life(valkey, copy)
    hearer.bus.fate = lambda: "pass"
    newest = await writer.publish("guide")
    await got(place.listener, [1, 2])
    hearer.bus.release()
    await quiet(hearer)
    assert hearer.log.reads <= 4
    assert (place.feed.position, place.listener.offsets, place.listener.resets) == (newest, [1, 2], [])
    await writer.publish("guide")
    await got(place.listener, [1, 2, 3])


async def test_a_hub_that_missed_what_is_kept_no_more_says_so(valkey: Valkey) -> None:
    limits: LogLimits = some_limits(count=3)
    async with instances(valkey, 2, limits=limits) as (writer, hearer):
        place = await hearer.join("guide")
        hearer.bus.fate = lambda: "lose"
        newest = await writer.publish("guide", 10)
        await until(lambda: hearer.bus.heard == 10, "all were lost")
        hearer.hub.check_tails()
        await until(lambda: bool(place.listener.resets), "the reset")
        reset = place.listener.resets[0]
        assert (Position(reset["offset"], reset["epoch"]), reset["reason"]) == (newest, "trimmed")
        assert place.listener.offsets == []


async def test_a_log_that_was_forgotten_is_told_and_begun_again(pair: list[Instance], valkey: Valkey) -> None:
    writer, hearer = pair
    place = await hearer.join("guide")
    await writer.publish("guide", 2)
    await got(place.listener, [1, 2])
    await valkey.command("DEL", valkey.key("log:{guide}:meta"), valkey.key("log:{guide}:entries"))
    hearer.hub.check_tails()
    await until(lambda: bool(place.listener.resets), "the reset")
    reset = place.listener.resets[0]
    assert (reset["offset"], reset["epoch"], reset["reason"]) == (0, "", "unknown_epoch")
    await writer.publish("guide", 2)
    await got(place.listener, [1, 2, 1, 2])


async def test_comparing_rests_when_nothing_is_missing(pair: list[Instance], valkey: Valkey) -> None:
    writer, hearer = pair
    await hearer.join("guide")
    await hearer.hub.open("connection:unwritten", is_fresh=True)
    await hearer.join("pillar:content")
    await writer.publish("guide", 3)
    await begin_new_life(valkey)
    await writer.log.read("guide", None)  # it is noticed by somebody who only reads
    await quiet(hearer)
    before = hearer.log.reads
    for _ in range(3):
        hearer.hub.check_tails()
        await quiet(hearer)
    assert hearer.log.reads == before


# The bus comes and goes


async def test_all_that_is_confirmed_again_is_compared_together(one: Instance) -> None:
    places = [await one.join(f"user:u{number}") for number in range(60)]
    before = one.log.comparisons
    one.bus.heard_again.append(one.hub.check_tails)
    await one.valkey.command("CLIENT", "KILL", "TYPE", "pubsub")
    await until(lambda: one.log.comparisons > before, "they are compared")
    await quiet(one)
    assert one.log.comparisons - before < 8
    assert all(place.is_live for place in places)


async def test_many_feeds_that_missed_something_are_repaired_a_few_at_a_time(pair: list[Instance]) -> None:
    writer, hearer = pair
    places = [await hearer.join(f"user:u{number}") for number in range(6 * REPAIRS_AT_ONCE)]
    hearer.bus.fate = lambda: "lose"
    await asyncio.gather(*(writer.publish(place.feed.channel, 2) for place in places))
    await until(lambda: hearer.bus.heard >= 2 * len(places), "all was lost")
    hearer.log.most_at_once = 0
    hearer.hub.check_tails()
    for place in places:
        await got(place.listener, [1, 2])
    assert hearer.log.most_at_once == REPAIRS_AT_ONCE


async def test_what_was_published_while_the_bus_was_gone_arrives_when_it_is_back(pair: list[Instance]) -> None:
    writer, hearer = pair
    place = await hearer.join("guide")
    await hearer.valkey.command("CLIENT", "KILL", "TYPE", "pubsub")
    await writer.publish("guide", 10)
    await got(place.listener, list(range(1, 11)))


async def test_a_bus_confirmed_again_while_a_feed_opens_is_not_trusted(pair: list[Instance]) -> None:
    writer, hearer = pair
    opened = hearer.log.opened

    async def open_then_lose(channels: Sequence[str]) -> dict[str, Opened]:
        found = await opened(channels)
        hearer.bus.fate = lambda: "lose"
        await writer.publish("guide", 2)
        await until(lambda: hearer.bus.heard == 2, "both were lost")
        hearer.bus.fate = lambda: "pass"
        confirmed = asyncio.Event()
        hearer.bus.heard_again.append(confirmed.set)
        await hearer.valkey.command("CLIENT", "KILL", "TYPE", "pubsub")
        await asyncio.wait_for(confirmed.wait(), PATIENCE)
        return found

    hearer.log.opened = open_then_lose  # type: ignore[method-assign]
    place = await hearer.join("guide")
    await got(place.listener, list(range(place.start.offset + 1, 3)))


async def test_messages_of_a_kind_that_nobody_knows_yet_are_passed_over(one: Instance) -> None:
    place = await one.join("guide")
    await one.valkey.command("SPUBLISH", one.valkey.key(bus_channel("guide")), b'{"v":9,"t":"news"}\n{}')
    await until(lambda: one.bus.heard == 1, "it has come")
    assert place.listener.frames == []
    one.hub.accept(Stretch("pillar:nobody", "e", 1, 1, (b"{}",), 1))
