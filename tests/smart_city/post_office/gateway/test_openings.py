"""Openings: feeds of one turn and slot go together, and what befalls one of them is not the others'."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from foundations.errors import Unavailable
from foundations.valkey.client import Valkey
from smart_city.post_office.gateway import openings
from smart_city.post_office.gateway.feed import Feed
from smart_city.post_office.log.values import Opened
from tests.support.hubs import Instance, instances
from tests.support.waiting import PATIENCE, until

pytestmark = pytest.mark.on_one_server
CHANNELS = [f"pillar:p{number}" for number in range(20)]


@pytest.fixture
async def one(valkey: Valkey) -> AsyncIterator[Instance]:
    async with instances(valkey) as (instance,):
        yield instance


async def opened(instance: Instance, channels: Sequence[str]) -> list[Feed]:
    """The feeds of channels that one turn of the loop asks for, each on its own."""
    async with asyncio.timeout(PATIENCE):
        return await asyncio.gather(*(instance.hub.open(channel) for channel in channels))


def hang(instance: Instance, channel: str, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """The node on which this channel lies does not answer, until the event is set."""
    answers, ask = asyncio.Event(), instance.log.opened

    async def hang(channels: Sequence[str]) -> dict[str, Opened]:
        if channel in channels:
            await answers.wait()
        return await ask(channels)

    monkeypatch.setattr(instance.log, "opened", hang)
    return answers


@pytest.mark.parametrize(("at_once", "calls"), [(500, 1), (8, 3)])
async def test_feeds_of_one_turn_are_opened_by_one_call_for_so_many(
    one: Instance, monkeypatch: pytest.MonkeyPatch, at_once: int, calls: int
) -> None:
    monkeypatch.setattr(openings, "AT_ONCE", at_once)
    feeds = await opened(one, CHANNELS)
    assert (one.log.reads, [feed.channel for feed in feeds]) == (calls, CHANNELS)
    places = [await one.join(channel) for channel in CHANNELS]
    await asyncio.gather(*(one.publish(channel) for channel in CHANNELS))
    assert [place.listener.offsets for place in places] == [[1]] * len(CHANNELS)


async def test_a_slot_whose_node_hangs_holds_up_no_other(one: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one.log, "slot_of", lambda channel: len(channel))
    answers = hang(one, "guide", monkeypatch)
    waiting = asyncio.create_task(one.hub.open("guide"))
    assert len(await opened(one, CHANNELS)) == len(CHANNELS)
    assert not waiting.done()
    answers.set()
    assert (await waiting).position.epoch


async def test_where_a_slot_cannot_be_had_the_others_are(one: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openings, "OPENING_SECONDS", 0.05)
    monkeypatch.setattr(one.log, "slot_of", lambda channel: len(channel))
    hang(one, "guide", monkeypatch)
    found = await one.hub.open_each(["guide", *CHANNELS])
    refused = [channel for channel, feed in found.items() if not isinstance(feed, Feed)]
    assert (refused, type(found["guide"])) == (["guide"], Unavailable)
    with pytest.raises(Unavailable):
        await one.hub.open_whole(["pillar:other", "guide"])
    await until(lambda: sorted(one.hub._feeds) == sorted(CHANNELS), "nothing is held of what was wanted whole")


async def test_who_leaves_while_a_round_is_under_way_changes_nothing_for_the_others(
    one: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = hang(one, CHANNELS[0], monkeypatch)
    leaving, *staying = [asyncio.create_task(one.hub.open(channel)) for channel in CHANNELS]
    await asyncio.sleep(0)
    assert len({feed.opening for feed in one.hub._feeds.values()}) == 1
    while not await one.listeners_at(CHANNELS[0]):
        pass  # they are heard, and about to be read
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    answers.set()
    assert [feed.channel for feed in await asyncio.gather(*staying)] == CHANNELS[1:]
    assert sorted(one.hub._feeds) == sorted(CHANNELS[1:])
    assert await one.listeners_at(CHANNELS[0]) == 0
