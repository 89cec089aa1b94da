"""The hub: which logs this instance hears, and how a publication reaches every subscriber once and in order.

Publications come from a script's reply, from the bus or from the log, in any order and any number of times: what a
feed has is dropped, and where something is missing the log is read. Where a subscription begins is `joining`'s matter.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Container, Iterable, Sequence

from foundations.errors import CityError
from foundations.supervision import Tasks
from foundations.telemetry import Counters, Traces
from foundations.valkey.subscriptions import Subscriptions
from smart_city.post_office.gateway.feed import Feed, by_epoch
from smart_city.post_office.gateway.messages import encode, positioned, wire
from smart_city.post_office.gateway.openings import Openings, deaf
from smart_city.post_office.gateway.provisional import frames_of
from smart_city.post_office.gateway.server_frames import Reset
from smart_city.post_office.gateway.tails import Tails
from smart_city.post_office.log import ChannelLog, Page, Stretch, bus
from smart_city.post_office.log.bus import Delta, bus_channel
from smart_city.post_office.log.values import Provisional, Withdrawn
from smart_city.post_office.spans import delivered
from smart_city.vocabulary import Position

_log = logging.getLogger(__name__)

BUFFERED = 64
"""Stretches kept while a feed reads its log; beyond them the log is read once more instead."""
RETRY_SECONDS = 0.2
REPAIRS_AT_ONCE = 8
"""Thousands of feeds have missed something when the bus comes back, and what is said now must not wait for all."""


class Hub:
    """All feeds of this instance."""

    def __init__(
        self, log: ChannelLog, subscriptions: Subscriptions, tasks: Tasks, counters: Counters, traces: Traces
    ) -> None:
        self._log = log
        self._subscriptions = subscriptions
        self._tasks = tasks
        self._counters = counters
        self._traces = traces
        self._feeds: dict[str, Feed] = {}
        self._openings = Openings(log, subscriptions, tasks, self._settle)
        self._turns = asyncio.Semaphore(REPAIRS_AT_ONCE)
        self._tails = Tails(log, tasks, self._feeds, self.repair)

    def start(self, tail_check_seconds: float, private_tail_check_seconds: float) -> None:
        """Begins to compare every feed with its log now and then: the bus promises nothing."""
        self._tails.start(tail_check_seconds, private_tail_check_seconds)

    # Listening

    async def open(self, channel: str, *, is_fresh: bool = False) -> Feed:
        """The feed of a channel, heard and positioned; whoever opens it gives it back with `close`.

        A fresh log is one that nobody can have written to yet: it is heard, but not read.

        Raises:
            Unavailable: the bus or the log is away, or did not answer in time.
        """
        [feed] = await self.open_whole((channel,), fresh=(channel,) if is_fresh else ())
        return feed

    async def open_whole(self, channels: Sequence[str], *, fresh: Container[str] = ()) -> list[Feed]:
        """The feeds of channels, all of them or none; otherwise as `open`."""
        found = await self.open_each(channels, fresh=fresh)
        feeds = [feed for feed in found.values() if isinstance(feed, Feed)]
        for refusal in found.values():
            if isinstance(refusal, Exception):
                for feed in feeds:
                    self.close(feed)
                raise refusal
        return feeds

    async def open_each(self, channels: Iterable[str], *, fresh: Container[str] = ()) -> dict[str, Feed | Exception]:
        """The feed of each channel, or why it cannot be had; otherwise as `open`."""
        found = {channel: self._held(channel, is_fresh=channel in fresh) for channel in channels}
        try:
            for feed in found.values():
                if isinstance(feed, Feed) and feed.opening is not None:
                    await feed.opening.over()
        except BaseException:
            for feed in found.values():
                if isinstance(feed, Feed):
                    self.close(feed)
            raise
        return {channel: self._opened(feed) for channel, feed in found.items()}

    def close(self, feed: Feed) -> None:
        """Gives one opening back; a feed that nobody holds is no longer heard."""
        feed.holders -= 1
        if feed.holders == 0:
            if feed.repair is not None:
                feed.repair.cancel()
            self._forget(feed)

    def _held(self, channel: str, *, is_fresh: bool) -> Feed | Exception:
        """A feed that is open, or on its way."""
        feed = self._feeds.get(channel)
        if feed is None:
            if not self._subscriptions.is_hearing:
                return deaf()
            feed = Feed(channel, self)
            self._openings.add(feed, is_fresh=is_fresh)
            self._feeds[channel] = feed
        feed.holders += 1
        return feed

    def _opened(self, feed: Feed | Exception) -> Feed | Exception:
        if isinstance(feed, Exception) or feed.refusal is None:
            return feed
        self.close(feed)
        return copy.copy(feed.refusal)  # an error raised to many would grow with each traceback

    def _forget(self, feed: Feed) -> None:
        if self._feeds.get(feed.channel) is feed:
            del self._feeds[feed.channel]
            self._subscriptions.leave(bus_channel(feed.channel))

    def _settle(self, feed: Feed) -> None:
        """A feed is positioned, or refused; or nobody wants it any more."""
        if feed.refusal is not None:
            self._forget(feed)
        elif feed.holders:
            self._resume(feed)
            if feed.is_in_doubt:
                self.repair(feed)

    def confirmed(self, feed: Feed) -> None:
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

    def hear(self, feed: Feed, payload: bytes) -> None:
        """Takes what came over the bus."""
        heard = bus.parse(feed.channel, payload)
        if isinstance(heard, Stretch):
            self._take(feed, heard)
        elif heard is not None:
            self._pass_on(feed, heard)

    def _take(self, feed: Feed, stretch: Stretch) -> None:
        if feed.reading:
            if len(feed.buffer) < BUFFERED:
                feed.buffer = (*feed.buffer, stretch)
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
        spans = delivered(self._traces, feed.channel, entries, len(feed.live)) if self._traces.is_on else ()
        for subscriber in feed.live.values():
            subscriber.deliver(data)
        self._counters.messages_sent += len(frames) * len(feed.live)
        for ring in feed.bells:
            ring()
        for span in spans:
            span.end()

    def tell_ahead(self, news: Provisional | Withdrawn) -> None:
        """Tells who listens here of what is held: outside of the order of the log, which brings it again."""
        feed = self._feeds.get(news.channel)
        if feed is None or not feed.live:
            return
        if data := frames_of(news):
            for subscriber in feed.live.values():
                subscriber.deliver(data)
            self._counters.messages_sent += len(feed.live) * (len(news.entries) if isinstance(news, Provisional) else 1)

    def _pass_on(self, feed: Feed, delta: Delta) -> None:
        """Sends one part of an open answer; it is nowhere in the log, and nobody waits for it."""
        feed.has_streams = True
        frame = wire(delta.frame)
        for subscription, subscriber in feed.live.items():
            if subscription.snapshots is None or subscription.snapshots.admits(delta):
                subscriber.deliver(frame)
                self._counters.messages_sent += 1

    # Repair

    def repair(self, feed: Feed) -> None:
        """Reads the log from where the feed is, or once more if that is under way."""
        if feed.reading:
            feed.is_in_doubt = True
        else:
            feed.reading = True
            feed.repair = self._tasks.spawn(f"repair {feed.channel}", self._repair(feed))

    async def _repair(self, feed: Feed) -> None:
        """Reads the log until nothing is missing, then takes what was heard meanwhile."""
        feed.is_in_doubt = True
        while feed.is_in_doubt:
            try:
                async with self._turns:
                    feed.is_in_doubt = False
                    feed.buffer = ()  # what was heard before the log is read, is in it, or was lost with its store
                    page = await self._log.read(feed.channel, feed.position)
                self._follow(feed, page)
            except Exception as error:  # a feed is supervised here: it must not stay deaf
                is_defect = not isinstance(error, CityError)
                _log.warning("the log of %s cannot be followed yet: %s", feed.channel, error, exc_info=is_defect)
                feed.is_in_doubt = True
                await asyncio.sleep(RETRY_SECONDS)
        feed.repair = None
        self._resume(feed)

    def _follow(self, feed: Feed, page: Page) -> None:
        if page.recovered is False:
            reset = reset_frame(feed.channel, page.newest, page.reason)
            for subscriber in feed.live.values():
                subscriber.deliver(reset)
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
        heard, feed.buffer = feed.buffer, ()
        for stretch in heard:
            self._take(feed, stretch)


def reset_frame(channel: str, newest: Position, reason: str) -> bytes:
    """Says that continuity broke: what follows on the channel starts after this position."""
    return wire(encode(Reset(channel=channel, offset=newest.offset, epoch=newest.epoch, reason=reason)))
