"""Listeners: told that a channel has changed, wherever it was, as seldom as it does no harm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from foundations.errors import Overloaded, Unavailable
from foundations.valkey.client import Valkey
from smart_city.post_office.gateway.listening import GATHER_SECONDS, Listener
from smart_city.post_office.gateway.watching import watching
from smart_city.vocabulary import Identity
from tests.support.hubs import Instance, instances
from tests.support.lives import begin_new_life, copy_of
from tests.support.waiting import PATIENCE, until

ALICE = Identity(kind="session", subject="alice", credential="s1")


@pytest.fixture
async def pair(valkey: Valkey) -> AsyncIterator[list[Instance]]:
    async with instances(valkey, 2) as both:
        yield both


class Told:
    """What a stream tells, in a task of its own."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.times: list[Sequence[str]] = []
        self.is_over = False

    async def take(self, beat: float | None) -> None:
        async for channels in self.listener.changes(beat):
            self.times.append(channels)
        self.is_over = True

    @property
    def channels(self) -> list[str]:
        return [channel for channels in self.times for channel in channels]


@asynccontextmanager
async def listening(
    instance: Instance, *channels: str, beat: float | None = None, most: int = 9
) -> AsyncIterator[Told]:
    listener = Listener(ALICE, instance.hub, most)
    await listener.follow(channels)
    told = Told(listener)
    taking = asyncio.create_task(told.take(beat))
    try:
        yield told
    finally:
        listener.end()
        await asyncio.wait_for(taking, PATIENCE)
        await listener.leave()
        assert told.is_over


async def test_a_change_is_told_on_every_instance(pair: list[Instance]) -> None:
    async with listening(pair[0], "guide") as here, listening(pair[1], "guide", "pillar:content") as there:
        await pair[0].publish("guide")
        await until(lambda: here.channels == there.channels == ["guide"], "both are told")
        await pair[1].publish("pillar:content")
        await until(lambda: there.channels == ["guide", "pillar:content"], "the other is told")
    assert here.channels == ["guide"]


async def test_a_burst_is_told_at_once_and_then_together(pair: list[Instance]) -> None:
    clock = asyncio.get_running_loop().time
    async with listening(pair[1], "guide") as told:
        began = clock()
        for _ in range(20):
            await pair[0].publish("guide", 20)
        await until(lambda: bool(told.times), "the first is told")
        before = len(told.times)
        await pair[0].publish("guide")
        await until(lambda: len(told.times) > before, "the last is told, too")
    assert len(told.times) <= (clock() - began) / GATHER_SECONDS + 2


async def test_what_is_followed_no_more_is_told_no_more(pair: list[Instance]) -> None:
    async with listening(pair[0], "guide", "pillar:content") as told:
        await told.listener.follow(["pillar:content"])
        await pair[0].publish("guide")
        await pair[0].publish("pillar:content")
        await until(lambda: bool(told.times), "it is told")
    assert told.channels == ["pillar:content"]


async def test_a_lost_tail_is_a_change(pair: list[Instance], valkey: Valkey) -> None:
    await pair[0].publish("guide")
    copy = await copy_of(valkey)
    await pair[0].publish("guide", 2)
    async with listening(pair[1], "guide") as told:
        await begin_new_life(valkey, copy)
        await pair[0].publish("guide")
        await until(lambda: told.channels[:1] == ["guide"], "it is told")


async def test_a_beat_tells_nothing_now_and_then(pair: list[Instance]) -> None:
    async with listening(pair[0], "guide", beat=0.01) as told:
        await until(lambda: len(told.times) >= 3, "three beats")
    assert told.channels == []


async def test_a_stream_follows_so_many_channels_and_no_more(pair: list[Instance]) -> None:
    async with listening(pair[0], "guide", most=1) as told:
        with pytest.raises(Overloaded):
            await told.listener.follow(["guide", "pillar:content"])
        await pair[0].publish("guide")
        await until(lambda: told.channels == ["guide"], "what it followed it still follows")


async def test_who_may_not_stay_is_told_nothing_more(pair: list[Instance]) -> None:
    async with listening(pair[0], "guide") as told:
        told.listener.send(b"a warning")
        told.listener.close(4501, "revoked")
        await until(lambda: told.is_over, "it is over")
        assert (told.listener.dismissed, told.listener.user_id) == ("revoked", "alice")
        await pair[0].publish("guide")
    assert told.times == []


async def test_nothing_is_followed_while_the_bus_is_deaf(valkey: Valkey) -> None:
    async with instances(valkey) as (instance,):
        await instance.bus.close()
        with pytest.raises(Unavailable):
            async with listening(instance, "guide"):
                pass


async def test_a_watcher_costs_no_message_and_leaves_nothing(pair: list[Instance]) -> None:
    rung = 0

    def ring() -> None:
        nonlocal rung
        rung += 1

    async with watching(pair[0].hub, "guide", ring):
        await pair[1].publish("guide")
        await until(lambda: rung == 1, "it rings")
    await pair[1].publish("guide")
    assert (rung, pair[0].counters.messages_sent) == (1, 0)
