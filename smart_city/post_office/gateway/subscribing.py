"""What one connection listens to: taking, moving and ending its subscriptions, and the acks that say where each starts.

It asks no questions about rights; the connection has asked them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import UNSET

from foundations.errors import CityError, Overloaded
from smart_city.post_office.channels import is_private
from smart_city.post_office.fleet.directory import Registered
from smart_city.post_office.fleet.registry import Registry
from smart_city.post_office.gateway.feed import Feed, Subscriber, Subscription
from smart_city.post_office.gateway.joining import Joined, Joining, Prepared
from smart_city.post_office.gateway.messages import encode, wire
from smart_city.post_office.gateway.server_frames import Outcome, Subscribed
from smart_city.vocabulary import Position


class Subscribing:
    """The subscriptions of one connection."""

    __slots__ = ("_arriving", "_held", "_joining", "_most", "_registry", "_subscriber", "has_ended")

    def __init__(self, joining: Joining, registry: Registry, subscriber: Subscriber, *, most: int) -> None:
        self._joining = joining
        self._registry = registry
        self._subscriber = subscriber
        self._most = most
        self._held: dict[str, tuple[Feed, Subscription]] = {}
        self._arriving: frozenset[str] = frozenset()
        self.has_ended = False

    @property
    def channels(self) -> Sequence[str]:
        """What is listened to, private logs left out, and what is about to be."""
        return sorted({channel for channel in self._held if not is_private(channel)} | self._arriving)

    def position_of(self, channel: str) -> Position | None:
        """Up to where a log was sent; nothing when it is not listened to."""
        if channel not in self._held:
            return None
        feed, subscription = self._held[channel]
        return feed.position if subscription in feed.live else subscription.position

    def __contains__(self, channel: object) -> bool:
        return channel in self._held

    def take(self, prepared: Mapping[str, Prepared], wanted: Mapping[str, Position | None]) -> dict[str, Joined]:
        """Decides where each subscription starts and replaces an older one; `begin` follows the ack."""
        taken = {}
        for channel, (feed, passage) in prepared.items():
            joined = self._joining.decide(feed, passage, self._subscriber, wanted[channel])
            if channel in self._held:
                self._joining.end(*self._held[channel])
            self._held[feed.channel] = (feed, joined.subscription)  # the name that all share
            taken[channel] = joined
        return taken

    def begin(self, taken: Mapping[str, Joined]) -> None:
        """Starts sending; the ack with the positions has been queued before."""
        for channel, joined in taken.items():
            self._joining.begin(self._held[channel][0], joined)

    async def subscribe(self, wanted: Mapping[str, Position | None], who: Registered, frame_id: str,
                        refused: Mapping[str, CityError]) -> None:  # fmt: skip
        """Subscribes to every channel that can be had and acknowledges all, the refused ones with their error."""
        outcomes: dict[str, Outcome] = {channel: Outcome.refused(error) for channel, error in refused.items()}
        affordable = self._affordable(wanted, outcomes)
        prepared, unavailable = await self._joining.prepare_each(affordable)
        outcomes |= {channel: Outcome.refused(error) for channel, error in unavailable.items()}
        try:
            await self._register(prepared, who)
        except CityError as error:
            outcomes |= {channel: Outcome.refused(error) for channel in prepared}
            self._give_back(prepared)
        except BaseException:
            self._give_back(prepared)
            raise
        if self.has_ended:
            self._give_back(prepared)
            return
        taken = self.take(prepared, wanted)
        outcomes |= {channel: joined.told for channel, joined in taken.items()}
        self._subscriber.send(wire(encode(Subscribed(id=frame_id or UNSET, channels=outcomes))))
        self.begin(taken)

    def _affordable(
        self, wanted: Mapping[str, Position | None], outcomes: dict[str, Outcome]
    ) -> dict[str, Position | None]:
        room = self._most - sum(not is_private(channel) for channel in self._held)
        affordable: dict[str, Position | None] = {}
        for channel, since in wanted.items():
            room -= channel not in self._held and not is_private(channel)
            if room < 0:
                outcomes[channel] = Outcome.refused(Overloaded(f"a connection may have {self._most} subscriptions"))
            else:
                affordable[channel] = since
        return affordable

    async def _register(self, prepared: Mapping[str, Prepared], who: Registered) -> None:
        """Writes what is new into the keys that operators see, before it is acknowledged."""
        new = [channel for channel in prepared if channel not in self._held and not is_private(channel)]
        if not new:
            return
        self._arriving |= frozenset(new)
        self._registry.subscribers.count_in(new)
        try:
            await self._registry.subscribers.listed(new)
            await self._registry.update(who)
        except BaseException:
            self._registry.subscribers.count_out(new)
            self._registry.write_later(who)  # it may stand there with them by now: it is written again
            raise
        finally:
            self._arriving = frozenset()
        if self.has_ended:
            self._registry.subscribers.count_out(new)

    def unsubscribe(self, channels: Iterable[str]) -> list[str]:
        """Ends subscriptions; returns those that there were."""
        ended = [channel for channel in dict.fromkeys(channels) if channel in self._held]
        for channel in ended:
            self._joining.end(*self._held.pop(channel))
        public = [channel for channel in ended if not is_private(channel)]
        if public:
            self._registry.subscribers.count_out(public)
        return ended

    def fall_back(self) -> None:
        """The connection lags: each subscription is fed from its log, from where it is."""
        for feed, subscription in self._held.values():
            self._joining.fall_back(feed, subscription)

    def end(self) -> None:
        """Ends all subscriptions: the connection is gone."""
        self.has_ended = True
        self.unsubscribe(list(self._held))

    def _give_back(self, prepared: dict[str, Prepared]) -> None:
        for feed, _ in prepared.values():
            self._joining.give_back(feed)
        prepared.clear()
