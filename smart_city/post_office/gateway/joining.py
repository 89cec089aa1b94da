"""Joining a log: where a subscription begins, what it missed, and how it catches up at the client's pace.

The waiting half (`prepare`) and the deciding half (`decide`, `begin`) are apart, so that no publication slips in
between the ack that names a position and the first frame after it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from foundations.errors import CityError
from foundations.supervision import Tasks
from foundations.telemetry import Counters
from smart_city.post_office.gateway.feed import Feed, Snapshots, Subscriber, Subscription
from smart_city.post_office.gateway.hub import RETRY_SECONDS, Hub, reset_frame
from smart_city.post_office.gateway.messages import wire
from smart_city.post_office.gateway.pages import Pages, Passage
from smart_city.post_office.gateway.recent import Recent
from smart_city.post_office.gateway.server_frames import Outcome
from smart_city.post_office.log import ChannelLog
from smart_city.post_office.log.bus import Delta
from smart_city.vocabulary import Position

_log = logging.getLogger(__name__)

Prepared = tuple[Feed, Passage | None]
"""A feed that is open, and what was missed of it, where something may have been."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """The outcome of a subscription: where it starts, and what the ack says of the way there."""

    subscription: Subscription
    passage: Passage | None = None
    recovered: bool | None = None
    missed: int = 0
    reason: str = ""

    @property
    def told(self) -> Outcome:
        """What the ack says of it."""
        offset, epoch = self.subscription.position
        if self.recovered is None:
            return Outcome(offset=offset, epoch=epoch)
        if self.recovered:
            return Outcome(offset=offset, epoch=epoch, recovered=True, missed=self.missed)
        return Outcome(offset=offset, epoch=epoch, recovered=False, reason=self.reason)


class Joining:
    """Begins and ends subscriptions on a hub's feeds."""

    def __init__(self, hub: Hub, log: ChannelLog, tasks: Tasks, counters: Counters) -> None:
        self._hub = hub
        self._log = log
        self._tasks = tasks
        self._counters = counters
        self._pages = Pages(log, tasks)

    async def prepare(self, channel: str, since: Position | None) -> Prepared:
        """The waiting half: the feed is opened, and the log read unless the feed is at that very position.

        Raises:
            Unavailable: the bus or the log did not answer in time.
        """
        prepared, refused = await self.prepare_each({channel: since})
        if channel in refused:
            raise refused[channel]
        return prepared[channel]

    async def prepare_each(
        self, wanted: Mapping[str, Position | None]
    ) -> tuple[dict[str, Prepared], dict[str, CityError]]:
        """The waiting half of many, and the refusals of those that cannot be had."""
        found = await self._hub.open_each(wanted)
        feeds = {channel: feed for channel, feed in found.items() if isinstance(feed, Feed)}
        try:
            passages = await self._passages(feeds, wanted)
            outcomes = {channel: passages.get(channel, feed) for channel, feed in found.items()}
            refused = {channel: error for channel, error in outcomes.items() if isinstance(error, CityError)}
            for defect in outcomes.values():
                if isinstance(defect, BaseException) and not isinstance(defect, CityError):
                    raise defect
        except BaseException:
            for feed in feeds.values():
                self._hub.close(feed)
            raise
        prepared: dict[str, Prepared] = {}
        for channel, feed in feeds.items():
            if channel in refused:
                self._hub.close(feed)
            else:
                passage = passages.get(channel)
                prepared[channel] = (feed, passage if isinstance(passage, Passage) else None)
        return prepared, refused

    async def _passages(
        self, feeds: Mapping[str, Feed], wanted: Mapping[str, Position | None]
    ) -> dict[str, Passage | BaseException]:
        """What those have missed that are to begin elsewhere than where their feeds are."""
        behind = [
            (channel, since) for channel, feed in feeds.items()
            if (since := wanted[channel]) is not None and since != feed.position
        ]  # fmt: skip
        if not behind:
            return {}
        pages = await asyncio.gather(*(self._pages.read(*place) for place in behind), return_exceptions=True)
        return {channel: page for (channel, _), page in zip(behind, pages, strict=True)}

    def decide(self, feed: Feed, passage: Passage | None, subscriber: Subscriber, since: Position | None) -> Joined:
        """Where the subscription starts. Write the ack and call `begin`, with no waiting in between."""
        if since is None:
            return Joined(subscription=Subscription(subscriber, feed.channel, feed.position))
        if passage is None:
            start = feed.position if since == feed.position else since  # one object for all who begin there
            return Joined(subscription=Subscription(subscriber, feed.channel, start), recovered=True)
        page = passage.page
        if page.reason:
            lost = Subscription(subscriber, feed.channel, page.newest)
            return Joined(subscription=lost, recovered=False, reason=page.reason)
        start = Position(since.offset, since.epoch or page.epoch_of(since.offset))
        return Joined(
            subscription=Subscription(subscriber, feed.channel, start),
            passage=passage,
            recovered=True,
            missed=page.newest.offset - since.offset,
        )

    def begin(self, feed: Feed, joined: Joined) -> None:
        """Starts sending: at once when nothing was missed and there is room, else from the log."""
        subscription = joined.subscription
        if subscription.position == feed.position and subscription.subscriber.has_room:
            self._go_live(feed, subscription)
        else:
            work = self._catch_up(feed, subscription, joined.passage)
            subscription.work = self._tasks.spawn(f"catch up on {feed.channel}", work)

    def fall_back(self, feed: Feed, subscription: Subscription) -> None:
        """A subscriber does not keep up with what is new: what follows it gets from the log, at its own pace."""
        if subscription in feed.live:  # else it is fed already, and its next turn waits for room
            self.rejoin(feed, subscription, feed.position)

    def rejoin(self, feed: Feed, subscription: Subscription, position: Position) -> None:
        """Feeds a subscriber that has let frames pass: from the log again, after the last position that it took."""
        if subscription.work is not None:
            subscription.work.cancel()
        feed.live.pop(subscription, None)
        subscription.position, subscription.snapshots = position, None
        self.begin(feed, Joined(subscription=subscription))

    def give_back(self, feed: Feed) -> None:
        """Gives a prepared feed back that no subscription was made of."""
        self._hub.close(feed)

    def end(self, feed: Feed, subscription: Subscription) -> None:
        """Ends a subscription: nothing more is sent for it."""
        if subscription.work is not None:
            subscription.work.cancel()
        feed.live.pop(subscription, None)
        self._hub.close(feed)

    # Catching up

    async def _catch_up(self, feed: Feed, subscription: Subscription, passage: Passage | None) -> None:
        """Feeds one subscription until it is where its feed is: from the log, at last from what the feed just sent."""
        subscriber = subscription.subscriber
        async with subscriber.turn():
            pass  # until there is room nothing is read, and the feed need not remember what it sends
        with feed.remembered() as recent:
            while subscription.position != feed.position:
                async with subscriber.turn():
                    await self._feed(feed, subscription, recent, passage)
                passage = None
        subscription.work = None  # a task that has ended would be kept with it
        self._go_live(feed, subscription)

    async def _feed(self, feed: Feed, subscription: Subscription, recent: Recent, passage: Passage | None) -> None:
        until = feed.position
        frames = recent.after(subscription.position)
        if frames:
            await subscription.subscriber.replay(b"".join(frames))
            subscription.position = until
            self._counters.messages_sent += len(frames)
        else:
            await self._replay(feed, subscription, passage or await self._read_on(subscription))

    async def _read_on(self, subscription: Subscription) -> Passage:
        while True:
            try:
                return await self._pages.read(subscription.channel, subscription.position)
            except CityError as error:
                _log.warning("a subscriber of %s cannot catch up yet: %s", subscription.channel, error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _replay(self, feed: Feed, subscription: Subscription, passage: Passage) -> None:
        page = passage.page
        if page.reason:
            subscription.subscriber.send(reset_frame(subscription.channel, page.newest, page.reason))
        for piece in passage.pieces:
            await subscription.subscriber.replay(piece.frames)
            subscription.position = piece.until
            self._counters.messages_sent += piece.count
        if not page.entries:
            subscription.position = page.newest
            if feed.position != page.newest:
                self._hub.repair(feed)  # the log ends here, so the feed has missed something, or stands in another life

    # Answers in parts

    def _go_live(self, feed: Feed, subscription: Subscription) -> None:
        feed.live[subscription] = subscription.subscriber
        if feed.may_have_streams:
            snapshots = subscription.snapshots = Snapshots()
            work = self._snapshot(subscription, snapshots)
            subscription.work = self._tasks.spawn(f"snapshot {feed.channel}", work)

    async def _snapshot(self, subscription: Subscription, snapshots: Snapshots) -> None:
        """Sends the text so far of every open answer, and lets the parts after it through."""
        while True:
            try:
                page = await self._log.read(subscription.channel, None)
            except CityError:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            deltas = [Delta.of(frame) for frame in page.streams]
            if snapshots.settle({delta.message_id: delta.part for delta in deltas}):
                for delta in deltas:
                    subscription.subscriber.send(wire(delta.frame))
                subscription.work = None
                return
