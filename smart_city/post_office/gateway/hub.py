"""The hub: which logs this instance hears, and how a publication reaches every subscriber once and in order.

Every source of publications (a script's reply, the bus, a repair) goes through `accept`, which drops what it has
and reads the log first when something is missing. Where a subscription begins is `joining`'s matter.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence

from foundations.errors import CityError, Unavailable
from foundations.supervision import Tasks
from foundations.telemetry import Counters
from foundations.valkey.subscriptions import Subscriptions
from smart_city.post_office import bus
from smart_city.post_office.bus import Delta, bus_channel
from smart_city.post_office.gateway.feed import Feed, by_epoch, matches
from smart_city.post_office.gateway.messages import encode, positioned, wire
from smart_city.post_office.log import ChannelLog, Page, Stretch
from smart_city.vocabulary import Position

_log = logging.getLogger(__name__)

BUFFERED = 256
"""Stretches kept while a feed reads its log; beyond them the log is read once more instead."""
OPENING_SECONDS = 2.0
RETRY_SECONDS = 0.2
TAILS_AT_ONCE = 500


class Hub:
    """All feeds of this instance."""

    def __init__(self, log: ChannelLog, subscriptions: Subscriptions, tasks: Tasks, counters: Counters) -> None:
        self._log = log
        self._subscriptions = subscriptions
        self._tasks = tasks
        self._counters = counters
        self._feeds: dict[str, Feed] = {}

    def start(self, tail_check_seconds: float) -> None:
        """Begins to compare every feed with its log now and then: the bus promises nothing."""

        async def compare() -> None:
            while True:
                await asyncio.sleep(tail_check_seconds)
                await self._check_tails(list(self._feeds))

        self._tasks.start("compare feeds with their logs", compare)

    # Listening

    async def open(self, channel: str, *, is_fresh: bool = False) -> Feed:
        """The feed of a channel, heard and positioned; whoever opens it gives it back with `close`.

        A fresh log is one that nobody can have written to yet: it is heard, but not read.

        Raises:
            Unavailable: the bus or the log is away, or did not answer in time.
        """
        feed = self._feeds.get(channel)
        if feed is None:
            if not self._subscriptions.is_hearing:
                raise _deaf()
            feed = self._feeds[channel] = Feed(channel, opening=asyncio.get_running_loop().create_future())
            self._tasks.spawn(f"open {channel}", self._start(feed, is_fresh=is_fresh))
        feed.holders += 1
        if feed.opening is not None:
            try:
                await asyncio.shield(feed.opening)
            except BaseException:
                self.close(feed)
                raise
        return feed

    def close(self, feed: Feed) -> None:
        """Gives one opening back; a feed that nobody holds is no longer heard."""
        feed.holders -= 1
        if feed.holders == 0:
            self._forget(feed)

    def is_heard(self, feed: Feed) -> bool:
        """Whether the feed is still one of this hub's."""
        return self._feeds.get(feed.channel) is feed

    def _forget(self, feed: Feed) -> None:
        if self.is_heard(feed):
            del self._feeds[feed.channel]
            self._subscriptions.leave(bus_channel(feed.channel))

    async def _start(self, feed: Feed, *, is_fresh: bool) -> None:
        opening = feed.opening
        assert opening is not None  # noqa: S101  # a feed is made with it
        try:
            async with asyncio.timeout(OPENING_SECONDS):
                await self._subscriptions.listen(
                    bus_channel(feed.channel),
                    lambda payload: self._hear(feed, payload),
                    lambda: self._heard_again(feed),
                )
                if not is_fresh:
                    page = await self._log.read(feed.channel, None, create=True)
                    feed.position, feed.has_streams = page.newest, bool(page.streams)
        except (CityError, TimeoutError) as error:
            self._forget(feed)
            opening.set_exception(error if isinstance(error, CityError) else _deaf())
            opening.exception()  # marks it as seen: whoever waited may be gone
            return
        feed.opening = None
        opening.set_result(None)
        self._resume(feed)

    # Publications

    def accept(self, stretch: Stretch) -> None:
        """Takes a stretch of a log from any source and sends on what is new, in order."""
        feed = self._feeds.get(stretch.channel)
        if feed is not None:
            self._take(feed, stretch)

    def _hear(self, feed: Feed, payload: bytes) -> None:
        heard = bus.parse(feed.channel, payload)
        if isinstance(heard, Stretch):
            self._take(feed, heard)
        elif heard is not None:
            self._pass_on(feed, heard)

    def _take(self, feed: Feed, stretch: Stretch) -> None:
        if feed.reading:
            if len(feed.buffer) < BUFFERED:
                feed.buffer.append(stretch)
            else:
                feed.has_overrun = True
            return
        offset, epoch = feed.position
        if stretch.epoch == epoch and stretch.last <= offset:
            return
        continues = stretch.epoch == epoch or (not epoch and stretch.epoch_start == 1)
        if not continues or stretch.entries is None or stretch.first > offset + 1:
            self._repair_soon(feed)
            feed.buffer.append(stretch)
            return
        self._send(feed, stretch.entries[offset + 1 - stretch.first :], offset + 1, stretch.epoch)

    def _send(self, feed: Feed, entries: Sequence[bytes], first: int, epoch: str) -> None:
        """Encodes each entry once and gives every live subscriber all of them in one piece."""
        frames = [positioned(entry, offset, epoch) for offset, entry in enumerate(entries, first)]
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        position = feed.position = Position(first + len(frames) - 1, epoch)
        for subscription in feed.live:
            subscription.position = position
            subscription.subscriber.send(data)
        self._counters.messages_sent += len(frames) * len(feed.live)

    def _pass_on(self, feed: Feed, delta: Delta) -> None:
        """Sends one part of an open answer; it is nowhere in the log, and nobody waits for it."""
        feed.has_streams = True
        frame = wire(delta.frame)
        for subscription in feed.live:
            if subscription.snapshots is None or subscription.snapshots.admits(delta):
                subscription.subscriber.send(frame)
        self._counters.messages_sent += len(feed.live)

    # Repair

    def repair(self, feed: Feed) -> None:
        """Reads the log from where the feed is, unless that is under way."""
        if not feed.reading:
            self._repair_soon(feed)

    def _repair_soon(self, feed: Feed) -> None:
        feed.reading = True
        self._tasks.spawn(f"repair {feed.channel}", self._repair(feed))

    async def _repair(self, feed: Feed) -> None:
        """Reads the log until nothing is missing, then takes what the bus said meanwhile."""
        while self.is_heard(feed):
            feed.has_overrun = False
            try:
                page = await self._log.read(feed.channel, feed.position)
            except CityError as error:
                _log.warning("the log of %s cannot be read, trying again: %s", feed.channel, error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if page.recovered is False:
                self._reset(feed, page)
            for first, epoch, entries in by_epoch(page):
                self._send(feed, entries, first, epoch)
            if feed.position.offset >= page.newest.offset and not feed.has_overrun:
                feed.position = page.newest
                break
        self._resume(feed)

    def _reset(self, feed: Feed, page: Page) -> None:
        feed.position = page.newest
        for subscription in feed.live:
            subscription.position = page.newest
            subscription.subscriber.send(reset_frame(feed.channel, page.newest, page.reason))

    def _resume(self, feed: Feed) -> None:
        """Ends the reading; what was buffered and lies above the position is taken now."""
        feed.reading = False
        buffered, feed.buffer = feed.buffer, []
        for stretch in buffered:
            if feed.reading or stretch.last > feed.position.offset:
                self._take(feed, stretch)

    def check_tails(self, channels: Iterable[str] | None = None) -> None:
        """Compares feeds (all of them, unless told which) with their logs soon, and repairs those behind."""
        wanted = list(self._feeds if channels is None else channels)
        if wanted:
            self._tasks.spawn("check tails", self._check_tails(wanted))

    def _heard_again(self, feed: Feed) -> None:
        if feed.opening is None:
            self.check_tails([feed.channel])

    async def _check_tails(self, channels: list[str]) -> None:
        for start in range(0, len(channels), TAILS_AT_ONCE):
            try:
                newest = await self._log.newest(channels[start : start + TAILS_AT_ONCE])
            except CityError as error:
                _log.warning("channels cannot be compared with their logs: %s", error)
                return
            for channel, position in newest.items():
                feed = self._feeds.get(channel)
                if feed is not None and not matches(feed.position, position):
                    self.repair(feed)


def _deaf() -> Unavailable:
    return Unavailable("the bus between the instances does not answer", retry_after=1)


def reset_frame(channel: str, newest: Position, reason: str) -> bytes:
    """Says that continuity broke: what follows on the channel starts after this position."""
    return wire(
        encode(
            {
                "type": "reset",
                "channel": channel,
                "offset": newest.offset,
                "epoch": newest.epoch,
                "reason": reason,
            }
        )
    )
