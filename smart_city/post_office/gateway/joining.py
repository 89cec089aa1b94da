"""Joining a log: where a subscription begins, what it missed, and how it catches up at the client's pace.

The waiting half (`prepare`) and the deciding half (`decide`, `begin`) are apart, so that no publication slips in
between the ack that names a position and the first frame after it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from foundations.errors import CityError
from foundations.supervision import Tasks
from foundations.telemetry import Counters
from smart_city.post_office.bus import Delta
from smart_city.post_office.gateway.feed import Feed, Snapshots, Subscriber, Subscription, by_epoch, matches
from smart_city.post_office.gateway.hub import RETRY_SECONDS, Hub, reset_frame
from smart_city.post_office.gateway.messages import positioned, wire
from smart_city.post_office.log import ChannelLog, Page
from smart_city.vocabulary import Position

_log = logging.getLogger(__name__)

PIECE_BYTES = 64 * 1024
"""Old frames are written in pieces of about this size, each when the client has taken the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """The outcome of a subscription: where it starts, and what the ack says of the way there."""

    subscription: Subscription
    page: Page | None = None
    recovered: bool | None = None
    missed: int = 0
    reason: str = ""


class Joining:
    """Begins and ends subscriptions on a hub's feeds."""

    def __init__(self, hub: Hub, log: ChannelLog, tasks: Tasks, counters: Counters) -> None:
        self._hub = hub
        self._log = log
        self._tasks = tasks
        self._counters = counters

    async def prepare(self, channel: str, since: Position | None) -> tuple[Feed, Page | None]:
        """The waiting half: the feed is opened, and the log read if something may have been missed.

        Raises:
            Unavailable: the bus or the log did not answer in time.
        """
        feed = await self._hub.open(channel)
        if since is None or matches(since, feed.position):
            return feed, None
        try:
            return feed, await self._log.read(channel, since)
        except BaseException:
            self._hub.close(feed)
            raise

    def decide(self, feed: Feed, page: Page | None, subscriber: Subscriber, since: Position | None) -> Joined:
        """Where the subscription starts. Write the ack and call `begin`, with no waiting in between."""
        if since is None:
            return Joined(subscription=Subscription(subscriber, feed.channel, feed.position))
        if page is not None and page.recovered is False:
            start = feed.position if feed.position.offset >= page.newest.offset else page.newest
            lost = Subscription(subscriber, feed.channel, start)
            return Joined(subscription=lost, recovered=False, reason=page.reason)
        newest = max(feed.position.offset, page.newest.offset if page else 0)
        start = Position(since.offset, since.epoch or feed.position.epoch)
        return Joined(
            subscription=Subscription(subscriber, feed.channel, start),
            page=page,
            recovered=True,
            missed=max(0, newest - since.offset),
        )

    def begin(self, feed: Feed, joined: Joined) -> None:
        """Starts sending: at once when nothing was missed, else from the log."""
        if matches(joined.subscription.position, feed.position):
            self._go_live(feed, joined.subscription)
        else:
            self._tasks.spawn(f"catch up on {feed.channel}", self._catch_up(feed, joined.subscription, joined.page))

    def give_back(self, feed: Feed) -> None:
        """Gives a prepared feed back that no subscription was made of."""
        self._hub.close(feed)

    def end(self, feed: Feed, subscription: Subscription) -> None:
        """Ends a subscription: nothing more is sent for it."""
        subscription.has_ended = True
        feed.live.discard(subscription)
        self._hub.close(feed)

    def _go_live(self, feed: Feed, subscription: Subscription) -> None:
        subscription.position = feed.position
        feed.live.add(subscription)
        if feed.has_streams:
            subscription.snapshots = Snapshots()
            self._tasks.spawn(f"snapshot {feed.channel}", self._snapshot(subscription, subscription.snapshots))

    async def _snapshot(self, subscription: Subscription, snapshots: Snapshots) -> None:
        """Sends the text so far of every open answer, and lets the parts after it through."""
        while not subscription.has_ended:
            try:
                page = await self._log.read(subscription.channel, None)
            except CityError:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            deltas = [Delta.of(frame) for frame in page.streams]
            for delta in deltas:
                subscription.subscriber.send(wire(delta.frame))
            if snapshots.settle({delta.message_id: delta.part for delta in deltas}):
                return

    async def _catch_up(self, feed: Feed, subscription: Subscription, page: Page | None) -> None:
        """Feeds one subscription from the log until it is where its feed is."""
        while not subscription.has_ended:
            if page is not None:
                await self._replay(subscription, page)
            if subscription.has_ended or not self._hub.is_heard(feed):
                return
            if matches(subscription.position, feed.position):
                self._go_live(feed, subscription)
                return
            if subscription.position.offset >= feed.position.offset:
                self._hub.repair(feed)  # the log is ahead of what the bus has brought
            page = await self._read_on(subscription)

    async def _read_on(self, subscription: Subscription) -> Page | None:
        try:
            return await self._log.read(subscription.channel, subscription.position)
        except CityError as error:
            _log.warning("a subscriber of %s cannot catch up yet: %s", subscription.channel, error)
            await asyncio.sleep(RETRY_SECONDS)
            return None

    async def _replay(self, subscription: Subscription, page: Page) -> None:
        if page.recovered is False:
            subscription.position = page.newest
            subscription.subscriber.send(reset_frame(subscription.channel, page.newest, page.reason))
            return
        for first, epoch, entries in by_epoch(page):
            offset = first
            for piece in _pieces(entries):
                frames = b"".join(positioned(entry, offset + i, epoch) for i, entry in enumerate(piece))
                await subscription.subscriber.replay(frames)
                if subscription.has_ended:
                    return
                offset += len(piece)
                subscription.position = Position(offset - 1, epoch)
                self._counters.messages_sent += len(piece)
        if subscription.position.offset == page.newest.offset:
            subscription.position = page.newest


def _pieces(entries: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Entries in runs of about `PIECE_BYTES`, a larger one alone."""
    start = size = 0
    for index, entry in enumerate(entries):
        if size and size + len(entry) > PIECE_BYTES:
            yield entries[start:index]
            start, size = index, 0
        size += len(entry)
    if start < len(entries):
        yield entries[start:]
