"""The hub: which logs this instance hears, and how a publication reaches every subscriber once and in order.

Publications come from a script's reply, from the bus or from the log, in any order and any number of times: what a
feed has is dropped, and where something is missing the log is read. Where a subscription begins is `joining`'s matter.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Sequence

from foundations.errors import CityError, Unavailable
from foundations.supervision import Tasks
from foundations.telemetry import Counters
from foundations.valkey.subscriptions import Subscriptions
from smart_city.post_office.gateway.feed import Feed, by_epoch
from smart_city.post_office.gateway.messages import encode, positioned, wire
from smart_city.post_office.gateway.provisional import frames_of
from smart_city.post_office.gateway.server_frames import Reset
from smart_city.post_office.gateway.tails import Tails
from smart_city.post_office.log import ChannelLog, Page, Stretch, bus
from smart_city.post_office.log.bus import Delta, bus_channel
from smart_city.post_office.log.values import Provisional, Withdrawn
from smart_city.vocabulary import Position

_log = logging.getLogger(__name__)

BUFFERED = 64
"""Stretches kept while a feed reads its log; beyond them the log is read once more instead."""
OPENING_SECONDS = 2.0
RETRY_SECONDS = 0.2
REPAIRS_AT_ONCE = 8
"""Thousands of feeds have missed something when the bus comes back, and what is said now must not wait for all."""


class Hub:
    """All feeds of this instance."""

    def __init__(self, log: ChannelLog, subscriptions: Subscriptions, tasks: Tasks, counters: Counters) -> None:
        self._log = log
        self._subscriptions = subscriptions
        self._tasks = tasks
        self._counters = counters
        self._feeds: dict[str, Feed] = {}
        self._turns = asyncio.Semaphore(REPAIRS_AT_ONCE)
        self._tails = Tails(log, tasks, self._feeds, self.repair)

    def start(self, tail_check_seconds: float) -> None:
        """Begins to compare every feed with its log now and then: the bus promises nothing."""
        self._tails.start(tail_check_seconds)

    # Listening

    async def open(self, channel: str, *, is_fresh: bool = False) -> Feed:
        """The feed of a channel, heard and positioned; whoever opens it gives it back with `close`.

        A fresh log is one that nobody can have written to yet: it is heard, but not read.

        Raises:
            Unavailable: the bus or the log is away, or did not answer in time.
        """
        feed = self._feeds.get(channel) or self._begin(channel, is_fresh=is_fresh)
        feed.holders += 1
        if not feed.is_open:
            try:
                refusal = await asyncio.shield(feed.reader)
                if refusal is not None:
                    raise copy.copy(refusal)  # an error raised to many would grow with each traceback
            except BaseException:
                self.close(feed)
                raise
        return feed

    def close(self, feed: Feed) -> None:
        """Gives one opening back; a feed that nobody holds is no longer heard."""
        feed.holders -= 1
        if feed.holders == 0:
            feed.reader.cancel()
            self._forget(feed)

    def _begin(self, channel: str, *, is_fresh: bool) -> Feed:
        if not self._subscriptions.is_hearing:
            raise _deaf()
        feed = Feed(channel)
        feed.reader = self._tasks.spawn(f"open {channel}", self._start(feed, is_fresh=is_fresh))
        self._feeds[channel] = feed
        return feed

    def _forget(self, feed: Feed) -> None:
        if self._feeds.get(feed.channel) is feed:
            del self._feeds[feed.channel]
            self._subscriptions.leave(bus_channel(feed.channel))

    async def _start(self, feed: Feed, *, is_fresh: bool) -> CityError | None:
        """Hears first and reads then, so that nothing falls in between; returns why it could not."""
        try:
            async with asyncio.timeout(OPENING_SECONDS):
                await self._subscriptions.listen(
                    bus_channel(feed.channel),
                    lambda payload: self._hear(feed, payload),
                    lambda: self._confirmed(feed),
                )
                feed.is_in_doubt = False
                if not is_fresh:
                    page = await self._log.read(feed.channel, None, create=True)
                    feed.opened_at = feed.position = page.newest
                    feed.has_streams = bool(page.streams)
        except (CityError, TimeoutError) as error:
            self._forget(feed)
            return error if isinstance(error, CityError) else _deaf()
        feed.is_open = True
        self._resume(feed)
        if feed.is_in_doubt:
            self.repair(feed)
        return None

    def _confirmed(self, feed: Feed) -> None:
        """The bus is heard; for the second time, if something may have been missed."""
        if feed.reading:
            feed.is_in_doubt = True
        else:
            self._tails.check([feed.channel])

    def check_tails(self) -> None:
        """Compares all feeds with their logs soon, and repairs those that are elsewhere."""
        self._tails.check(list(self._feeds))

    # Publications

    def accept(self, stretch: Stretch) -> None:
        """Takes what this instance has appended itself, ahead of the bus."""
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
                feed.is_in_doubt = True
            return
        offset, epoch = feed.position
        if stretch.epoch == epoch and stretch.last <= offset:
            return
        continues = stretch.epoch == epoch or (not epoch and stretch.epoch_start == 1)
        if continues and stretch.first <= offset + 1 and stretch.entries is not None:
            self._send(feed, stretch.entries[offset + 1 - stretch.first :], offset + 1, stretch.epoch)
        else:
            self.repair(feed)

    def _send(self, feed: Feed, entries: Sequence[bytes], first: int, epoch: str) -> None:
        """Encodes each entry once and gives every live subscriber all of them in one piece."""
        frames = [positioned(entry, offset, epoch) for offset, entry in enumerate(entries, first)]
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        feed.position = Position(first + len(frames) - 1, epoch)
        if feed.recent is not None:
            feed.recent.add(first, epoch, frames)
        for subscription in feed.live:
            subscription.subscriber.deliver(data)
        self._counters.messages_sent += len(frames) * len(feed.live)
        for ring in feed.bells:
            ring()

    def tell_ahead(self, news: Provisional | Withdrawn) -> None:
        """Tells who listens here of what is held: outside of the order of the log, which brings it again."""
        feed = self._feeds.get(news.channel)
        if feed is None or not feed.live:
            return
        if data := frames_of(news):
            for subscription in feed.live:
                subscription.subscriber.deliver(data)
            self._counters.messages_sent += len(feed.live) * (len(news.entries) if isinstance(news, Provisional) else 1)

    def _pass_on(self, feed: Feed, delta: Delta) -> None:
        """Sends one part of an open answer; it is nowhere in the log, and nobody waits for it."""
        feed.has_streams = True
        frame = wire(delta.frame)
        for subscription in feed.live:
            if subscription.snapshots is None or subscription.snapshots.admits(delta):
                subscription.subscriber.deliver(frame)
                self._counters.messages_sent += 1

    # Repair

    def repair(self, feed: Feed) -> None:
        """Reads the log from where the feed is, or once more if that is under way."""
        if feed.reading:
            feed.is_in_doubt = True
        else:
            feed.reading = True
            feed.reader = self._tasks.spawn(f"repair {feed.channel}", self._repair(feed))

    async def _repair(self, feed: Feed) -> None:
        """Reads the log until nothing is missing, then takes what was heard meanwhile."""
        feed.is_in_doubt = True
        while feed.is_in_doubt:
            try:
                async with self._turns:
                    feed.is_in_doubt = False
                    feed.buffer.clear()  # what was heard before the log is read, is in it, or was lost with its store
                    page = await self._log.read(feed.channel, feed.position)
                self._follow(feed, page)
            except Exception as error:  # a feed is supervised here: it must not stay deaf
                is_defect = not isinstance(error, CityError)
                _log.warning("the log of %s cannot be followed yet: %s", feed.channel, error, exc_info=is_defect)
                feed.is_in_doubt = True
                await asyncio.sleep(RETRY_SECONDS)
        self._resume(feed)

    def _follow(self, feed: Feed, page: Page) -> None:
        if page.recovered is False:
            reset = reset_frame(feed.channel, page.newest, page.reason)
            for subscription in feed.live:
                subscription.subscriber.deliver(reset)
            for ring in feed.bells:
                ring()
        for first, epoch, entries in by_epoch(page):
            self._send(feed, entries, first, epoch)
        if not page.entries:
            feed.jump(page.newest)
        if feed.position != page.newest:
            feed.is_in_doubt = True

    def _resume(self, feed: Feed) -> None:
        """Ends the reading, and takes what was heard since it began."""
        feed.reading = False
        heard, feed.buffer = feed.buffer, []
        for stretch in heard:
            self._take(feed, stretch)


def _deaf() -> Unavailable:
    return Unavailable("the bus between the instances does not answer", retry_after=1)


def reset_frame(channel: str, newest: Position, reason: str) -> bytes:
    """Says that continuity broke: what follows on the channel starts after this position."""
    return wire(encode(Reset(channel=channel, offset=newest.offset, epoch=newest.epoch, reason=reason)))
