"""Who takes questions here: consumers with room are served in turn, and what they leave is brought home.

One take is in flight for each channel. What may be taken is decided in `inbox`; how a delivery ends that
nobody answered, in `returns`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from foundations.errors import CityError, StaleDelivery
from foundations.supervision import Tasks
from foundations.telemetry import Counters
from foundations.valkey.subscriptions import Subscriptions
from smart_city.post_office.answers import Answers
from smart_city.post_office.deliveries import RECLAIMED_AT_ONCE, How
from smart_city.post_office.inbox import Delivery, Holder, Inbox, Taken
from smart_city.post_office.inbox_scripts import bus_channel
from smart_city.post_office.questions import DeliveryId, Reclaimed, UnheardTake

_log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""How often is reaped, and asked without a wake-up while somebody has room: wake-ups may be lost."""
TAKEN_AT_ONCE = 128
CONSUMERS_KNOWN_POLLS = 5
CLOSE_SECONDS = 3.0


class Taker(Protocol):
    """A socket's consumer, or a waiting call. ``deliver`` makes ``room`` smaller and does not wait."""

    @property
    def name(self) -> str: ...
    @property
    def room(self) -> int: ...
    def deliver(self, delivery: Delivery) -> None: ...


@dataclass(slots=True, eq=False)
class _Place:
    """A taker at a desk. ``stays``: what it was given outlives it, and this instance.

    ``promised``: deliveries that are its own unless they prove answered.
    """

    taker: Taker
    holder: Holder
    stays: bool
    promised: int = 0

    @property
    def room(self) -> int:
        return self.taker.room - self.promised


@dataclass(slots=True, eq=False)
class _Desk:
    """One channel's takers here, in the order in which they are served next."""

    channel: str
    places: deque[_Place] = field(default_factory=deque)
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def plan(self) -> list[_Place]:
        """Who is to get the next messages, one each in turn; whoever is first now is last the next time."""
        waiting = deque((place, room) for place in self.places if (room := place.room) > 0)
        plan: list[_Place] = []
        while waiting and len(plan) < TAKEN_AT_ONCE:
            place, room = waiting.popleft()
            plan.append(place)
            if room > 1:
                waiting.append((place, room - 1))
        self.places.rotate(-1)
        return plan


class Dispatcher:
    """The desks of one instance, one for each agent channel.

    ``instance_id`` is this instance's name in the fleet, in this life: the others call `lapsed` with it.
    """

    def __init__(
        self, inbox: Inbox, answers: Answers, subscriptions: Subscriptions, tasks: Tasks, counters: Counters,
        *, instance_id: str, instance_lease_seconds: float, poll_seconds: float = POLL_SECONDS,
    ) -> None:  # fmt: skip
        self._inbox = inbox
        self._deliveries = inbox.deliveries
        self._answers = answers
        self._subscriptions = subscriptions
        self._tasks = tasks
        self._counters = counters
        self._instance = instance_id
        self._instance_lease = instance_lease_seconds
        self._poll = poll_seconds
        self._desks = {channel: _Desk(channel) for channel in inbox.channels}
        self._serving: list[asyncio.Task[None]] = []
        self._reaping: asyncio.Task[None] | None = None
        self._homeward: set[asyncio.Task[None]] = set()
        self._owed: list[Callable[[], Awaitable[None]]] = []
        """What could not be brought home because Valkey was away."""
        self._is_away = False
        self._quiet_until = 0.0
        self._is_closing = False

    async def start(self) -> None:
        """Hears wake-ups and begins to serve.

        Raises:
            Unavailable: Valkey does not answer.
        """
        heard = []
        for desk in self._desks.values():
            wake = desk.woken.set
            heard.append(self._subscriptions.listen(bus_channel(desk.channel), partial(_ignoring, wake), wake))
        await asyncio.gather(*heard)
        self._serving = [
            self._tasks.start(f"desk of {desk.channel}", partial(self._serve, desk)) for desk in self._desks.values()
        ]
        self._reaping = self._tasks.start("reaper of the inboxes", self._reap_each_second)

    async def close(self) -> None:
        """Takes nothing more and hands everything back, which counts as no try; answers tell no more parts."""
        self._is_closing = True
        self._answers.close()
        places = [(desk, place) for desk in self._desks.values() for place in desk.places]
        for desk in self._desks.values():
            desk.places.clear()
            desk.woken.set()
            self._subscriptions.leave(bus_channel(desk.channel))
        if self._reaping is not None:
            self._reaping.cancel()
        with suppress(TimeoutError, CityError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.gather(*self._serving, *self._homeward, return_exceptions=True)
                for desk, place in places:
                    if not place.stays:
                        await self._hand_back(desk.channel, place, counts=False)
                for channel in self._desks:
                    await self._inbox.count_consumers(channel, self._instance, 0, 1)

    def attach(self, channel: str, taker: Taker, *, lease_seconds: float | None = None, stays: bool = False) -> None:
        """Lets a taker be served. ``stays``: what it gets belongs to its name, not to this instance.

        Raises:
            KeyError: there is no such inbox.
        """
        lease = self._inbox.limits.lease_seconds if lease_seconds is None else lease_seconds
        holder = Holder(f"{'' if stays else self._instance}|{taker.name}", lease)
        desk = self._desks[channel]
        desk.places.append(_Place(taker, holder, stays))
        desk.woken.set()

    def detach(self, channel: str, taker: Taker, *, counts: bool = True) -> None:
        """Serves a taker no more; what it has goes back, as a failed try unless ``counts`` is false."""
        desk = self._desks[channel]
        place = next((place for place in desk.places if place.taker is taker), None)
        if place is None:
            return
        desk.places.remove(place)
        if not place.stays:
            self._bring_home(partial(self._hand_back, channel, place, counts=counts))

    def has_room(self, channel: str) -> None:
        """Somebody can take more."""
        self._desks[channel].woken.set()

    def lapsed(self, instance_id: str) -> None:
        """An instance is gone: what its consumers had is taken from them."""
        for channel in self._desks:
            self._bring_home(partial(self._reclaim_from, channel, instance_id))

    def consumers(self, channel: str) -> int:
        """How many takers the channel has here."""
        return len(self._desks[channel].places)

    # Serving

    async def _serve(self, desk: _Desk) -> None:
        while not self._is_closing:
            desk.woken.clear()
            try:
                seconds = await self._take(desk)
            except CityError as error:
                _log.debug("nothing can be taken from %s: %s", desk.channel, error)
                seconds = self._poll
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await desk.woken.wait()

    async def _take(self, desk: _Desk) -> float | None:
        """Takes once; returns after how many seconds to take again, ``None``: once somebody has room."""
        plan = desk.plan()
        if not plan:
            return None
        try:
            taken = await self._inbox.take(desk.channel, [place.holder for place in plan])
        except UnheardTake as take:
            self._bring_home(partial(self._return_unheard, desk.channel, take))
            raise
        self._give(desk, plan, taken)
        if taken.has_more or len(taken.deliveries) == len(plan):
            desk.woken.set()
        return self._poll if taken.due_in is None else min(self._poll, taken.due_in)

    def _give(self, desk: _Desk, plan: Sequence[_Place], taken: Taken) -> None:
        for index, delivery in taken.deliveries:
            place = plan[index]
            if delivery.attempt > 1:
                place.promised += 1
                self._tasks.spawn("a further attempt", self._give_again(desk, place, delivery))
            else:
                self._give_one(desk, place, delivery)

    async def _give_again(self, desk: _Desk, place: _Place, delivery: Delivery) -> None:
        """Gives what was given before, unless it proves answered. If nobody knows, its lease will lapse."""
        try:
            if await self._answers.askers.is_answered(delivery.route, delivery.message_id):
                await self._deliveries.done([DeliveryId.parse(delivery.delivery_id)])
                return
        except CityError as error:
            _log.warning("whether %s is answered cannot be known yet: %s", delivery.delivery_id, error)
            return
        finally:
            place.promised -= 1
            desk.woken.set()
        self._give_one(desk, place, delivery)

    def _give_one(self, desk: _Desk, place: _Place, delivery: Delivery) -> None:
        how: How = "free"  # the taker left meanwhile, and never saw it
        if place in desk.places:
            try:
                place.taker.deliver(delivery)
            except Exception:
                _log.exception("%s could not take %s", place.holder.name, delivery.delivery_id)
                how = "try"
            else:
                self._counters.deliveries += 1
                return
        self._bring_home(partial(self._return, delivery, how))

    # Bringing home

    def _bring_home(self, action: Callable[[], Awaitable[None]]) -> None:
        task = self._tasks.spawn("bringing deliveries home", self._now_or_later(action))
        self._homeward.add(task)
        task.add_done_callback(self._homeward.discard)

    async def _now_or_later(self, action: Callable[[], Awaitable[None]]) -> None:
        try:
            await action()
        except CityError as error:
            _log.warning("deliveries cannot be brought home yet: %s", error)
            self._owed.append(action)

    async def _return(self, delivery: Delivery, how: How) -> None:
        with suppress(StaleDelivery):
            delivery_id = DeliveryId.parse(delivery.delivery_id)
            await self._answers.returns.end(await self._deliveries.take_back(delivery_id, "closed", how))

    async def _hand_back(self, channel: str, place: _Place, *, counts: bool) -> None:
        await self._end_all(partial(self._deliveries.hand_back, channel, place.holder.name, counts=counts))

    async def _reclaim_from(self, channel: str, instance_id: str) -> None:
        await self._end_all(partial(self._deliveries.lost, channel, instance_id))

    async def _return_unheard(self, channel: str, take: UnheardTake) -> None:
        await self._end_all(partial(self._deliveries.unheard, channel, take))

    async def _end_all(self, reclaim: Callable[[], Awaitable[Sequence[Reclaimed]]]) -> None:
        """Reclaims in rounds until nothing is left."""
        while True:
            reclaimed = await reclaim()
            await self._answers.returns.end_all(reclaimed)
            if len(reclaimed) < RECLAIMED_AT_ONCE:
                return

    # Reaping

    async def _reap_each_second(self) -> None:
        while True:
            await asyncio.sleep(self._poll)
            try:
                await self._reap()
            except CityError as error:
                if not self._is_away:
                    _log.warning("the inboxes cannot be looked after: %s", error)
                self._is_away = True

    async def _reap(self) -> None:
        """Brings home what is owed and what lapsed; after Valkey was away the living come first."""
        known = self._poll * CONSUMERS_KNOWN_POLLS
        for desk in self._desks.values():
            await self._inbox.count_consumers(desk.channel, self._instance, len(desk.places), known)
        now = asyncio.get_running_loop().time()
        if self._is_away:
            self._is_away, self._quiet_until = False, now + self._instance_lease
        owed, self._owed = self._owed, []
        for action in owed:
            self._bring_home(action)
        if now >= self._quiet_until:
            for channel in self._desks:
                await self._end_all(partial(self._deliveries.lapsed, channel))


def _ignoring(action: Callable[[], None], _: bytes) -> None:
    action()
