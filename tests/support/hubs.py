"""Hubs for tests: instances over one store on a bus that has accidents, and listeners that keep what they get.

All parts are the real ones; only what arrives here may be lost, doubled, held back, or handed on later.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal

from foundations.supervision import Tasks
from foundations.telemetry import Counters, Traces
from foundations.valkey.client import Valkey
from foundations.valkey.subscriptions import Subscriptions
from smart_city.post_office.gateway.feed import Feed, Subscription
from smart_city.post_office.gateway.hub import Hub
from smart_city.post_office.gateway.joining import Joined, Joining
from smart_city.post_office.log import ChannelLog, LogLimits, Page, Stretch
from smart_city.post_office.log.bus import Announcer, bus_channel
from smart_city.post_office.log.values import Opened
from smart_city.vocabulary import Position
from tests.support.logs import ROOMY, an_entry

Fate = Literal["pass", "lose", "double", "hold"]


class FaultyBus(Subscriptions):
    """A real bus whose messages may meet with accidents. What is held back arrives with `release`, or never."""

    def __init__(self, valkey: Valkey, tasks: Tasks) -> None:
        super().__init__(valkey, tasks, canary_seconds=0.2)
        self.fate: Callable[[], Fate] = lambda: "pass"
        self.heard = 0
        self._handlers: dict[str, Callable[[bytes], None]] = {}
        self._held: list[tuple[str, bytes]] = []

    def listen(
        self, channel: str, handler: Callable[[bytes], None], on_confirmed: Callable[[], None] | None = None
    ) -> asyncio.Future[None]:
        if not channel.startswith("log:"):
            return super().listen(channel, handler, on_confirmed)
        confirmed = super().listen(channel, partial(self._meet, channel), on_confirmed)
        self._handlers[channel] = handler
        return confirmed

    def leave(self, channel: str) -> None:
        self._handlers.pop(channel, None)
        super().leave(channel)

    def release(self, seed: int | None = None) -> None:
        """Lets what was held back arrive, with a ``seed`` in some order of its own."""
        held, self._held = self._held, []
        if seed is not None:
            random.Random(seed).shuffle(held)  # noqa: S311  # keeps no secret
        for channel, payload in held:
            if channel in self._handlers:  # nobody hears what is said to those who have left
                self._handlers[channel](payload)

    def _meet(self, channel: str, payload: bytes) -> None:
        self.heard += 1
        match self.fate():
            case "pass":
                self._handlers[channel](payload)
            case "double":
                self._handlers[channel](payload)
                self._handlers[channel](payload)
            case "hold":
                self._held.append((channel, payload))


class Nobody:
    """For feeds that are on no bus."""

    def hear(self, feed: Feed, payload: bytes) -> None:
        raise AssertionError("there is no bus")

    def confirmed(self, feed: Feed) -> None:
        raise AssertionError("there is no bus")


class CountedLog(ChannelLog):
    """A log that counts how often it was asked, and how often at once."""

    reads = 0
    reading = 0
    most_at_once = 0
    comparisons = 0

    async def read(self, channel: str, since: Position | None, **how: Any) -> Page:
        self.reads += 1
        self.reading += 1
        self.most_at_once = max(self.most_at_once, self.reading)
        try:
            return await super().read(channel, since, **how)
        finally:
            self.reading -= 1

    async def opened(self, channels: Sequence[str]) -> dict[str, Opened]:
        self.reads += 1
        return await super().opened(channels)

    async def newest(self, channels: Sequence[str]) -> dict[str, Position]:
        self.comparisons += 1
        return await super().newest(channels)


class Listener:
    """A subscriber. While its ``road`` is not open, replays wait, as they do for a slow client."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.replayed = 0
        self.road = asyncio.Event()
        self.road.set()

    def send(self, frame: bytes) -> None:
        self.frames += frames_in(frame)

    deliver = send

    @property
    def has_room(self) -> bool:
        return self.road.is_set()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        await self.road.wait()
        yield

    async def replay(self, frames: bytes) -> None:
        await self.road.wait()
        self.replayed += 1
        self.frames += frames_in(frames)

    @property
    def publications(self) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if "offset" in frame and frame.get("type") != "reset"]

    @property
    def offsets(self) -> list[int]:
        return [frame["offset"] for frame in self.publications]

    @property
    def resets(self) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame.get("type") == "reset"]

    @property
    def deltas(self) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if "part" in frame]


def frames_in(data: bytes) -> list[dict[str, Any]]:
    """The JSON in whole WebSocket frames, one after the other."""
    frames = []
    while data:
        assert data[0] == 0x81
        size, start = data[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start], "big")
        frames.append(json.loads(data[start : start + size]))
        data = data[start + size :]
    return frames


class Place:
    """One listener's subscription to one channel, and the ack that it would have got."""

    def __init__(self, instance: Instance, feed: Feed, joined: Joined, listener: Listener) -> None:
        self._instance = instance
        self.feed = feed
        self.joined = joined
        self.start = joined.subscription.position
        self.listener = listener

    @property
    def subscription(self) -> Subscription:
        return self.joined.subscription

    @property
    def is_live(self) -> bool:
        return self.subscription in self.feed.live

    def falls_back(self) -> None:
        self._instance.joining.fall_back(self.feed, self.subscription)

    def leave(self) -> None:
        self._instance.joining.end(self.feed, self.subscription)


class Instance:
    """One instance's log, bus and hub."""

    def __init__(self, valkey: Valkey, tasks: Tasks, limits: LogLimits = ROOMY) -> None:
        self.valkey = valkey
        self.tasks = tasks
        self.announcer = Announcer()
        self.bus = FaultyBus(valkey, tasks)
        self.log = CountedLog(valkey, tasks, limits, self.announcer, heard_here=self.bus.hearing)
        self.counters = Counters()
        self.hub = Hub(self.log, self.bus, tasks, self.counters, Traces())
        self.joining = Joining(self.hub, self.log, tasks, self.counters)
        self.announcer.listeners.append(self._appended)
        self.reply_fate: Callable[[], Fate] = lambda: "pass"

    def _appended(self, stretch: Stretch) -> None:
        """A script's reply: the instance may know of it before or after the bus, or never come to know."""
        fate = self.reply_fate()
        if fate != "lose":
            self.hub.accept(stretch)
        if fate == "double":
            self.hub.accept(stretch)

    async def publish(self, channel: str, number: int = 1, *, size: int = 0) -> Position:
        """Appends so many entries, one after the other; where the last one stands."""
        for _ in range(number):
            appended = await self.log.append_now(channel, an_entry(size=size))
        return Position(appended.offset, appended.epoch)

    async def join(self, channel: str, since: Position | None = None, *, listener: Listener | None = None) -> Place:
        feed, page = await self.joining.prepare(channel, since)
        listener = listener or Listener()
        place = Place(self, feed, self.joining.decide(feed, page, listener, since), listener)
        self.joining.begin(feed, place.joined)
        return place

    async def listeners_at(self, channel: str) -> int:
        """How many instances the store would tell of a publication."""
        name = self.valkey.key(bus_channel(channel))
        answer = await self.valkey.command("PUBSUB", "SHARDNUMSUB", name)
        return int(answer[1] if isinstance(answer, list) else answer[name.encode()])


@asynccontextmanager
async def instances(valkey: Valkey, number: int = 1, *, limits: LogLimits = ROOMY) -> AsyncIterator[list[Instance]]:
    """So many instances over one store, each with connections of its own; everything of theirs ends."""
    started: list[Instance] = []
    try:
        for _ in range(number):
            own = await Valkey.connect(valkey.url, prefix=valkey.prefix, timeout=valkey.timeout)
            started.append(Instance(own, Tasks("instance"), limits))
            await started[-1].bus.start()
        yield started
    finally:
        for instance in started:
            await instance.tasks.close()
            await instance.bus.close()
            await instance.valkey.close()
