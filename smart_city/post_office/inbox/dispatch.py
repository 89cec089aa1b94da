"""Who takes questions here: consumers with room are served in turn, as soon as there is something to take.

One take is in flight for each channel. What may be taken is decided in `inbox`; what becomes of deliveries whose
taker went is `reaper`'s work.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from foundations.errors import CityError
from foundations.supervision import Tasks
from foundations.telemetry import Counters
from foundations.valkey.subscriptions import Subscriptions
from smart_city.post_office.answers import Answers
from smart_city.post_office.inbox.calls import bus_channel
from smart_city.post_office.inbox.questions import Delivery, DeliveryId, Holder, UnheardTake
from smart_city.post_office.inbox.reaper import Reaper
from smart_city.post_office.inbox.store import Inbox, Taken

_log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""How often is reaped, and asked without a wake-up while somebody has room: wake-ups may be lost."""
TAKEN_AT_ONCE = 128
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

    ``promised``: deliveries that will be its own unless they prove answered.
    """

    taker: Taker
    holder: Holder
    stays: bool
    promised: int = 0
    is_attached: bool = True

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
        self._answers = answers
        self._subscriptions = subscriptions
        self._tasks = tasks
        self._counters = counters
        self._instance = instance_id
        self._poll = poll_seconds
        self._desks = {channel: _Desk(channel) for channel in inbox.channels}
        self._reaper = Reaper(
            inbox, answers.returns, tasks, instance_id=instance_id, instance_lease_seconds=instance_lease_seconds,
            poll_seconds=poll_seconds, consumers=self.consumers,
        )  # fmt: skip
        self._serving: list[asyncio.Task[None]] = []
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
        self._reaper.start()

    async def close(self) -> None:
        """Takes nothing more and hands everything back, which counts as no try; answers tell no more parts."""
        self._is_closing = True
        self._answers.close()
        for desk in self._desks.values():
            self._subscriptions.leave(bus_channel(desk.channel))
            for place in list(desk.places):
                self._detach(desk, place, counts=False)
            desk.woken.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.gather(*self._serving, return_exceptions=True)
                await self._reaper.close()

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
        for place in desk.places:
            if place.taker is taker:
                return self._detach(desk, place, counts=counts)
        return None

    def _detach(self, desk: _Desk, place: _Place, *, counts: bool) -> None:
        desk.places.remove(place)
        place.is_attached = False
        if not place.stays:
            self._reaper.hand_back(desk.channel, place.holder.name, counts=counts)

    def give_back(self, deliveries: Iterable[Delivery]) -> None:
        """Hands back what a taker was given and never saw: it counts as no try."""
        for delivery in deliveries:
            self._reaper.return_one(delivery, "free")

    def has_room(self, channel: str) -> None:
        """Somebody can take more."""
        self._desks[channel].woken.set()

    def lapsed(self, instance_id: str) -> None:
        """An instance is gone: what its consumers had is taken from them."""
        self._reaper.take_from(instance_id)

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
            self._reaper.return_unheard(desk.channel, take)
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
                await self._inbox.deliveries.done([DeliveryId.parse(delivery.delivery_id)])
                return
        except CityError as error:
            _log.warning("whether %s is answered cannot be known yet: %s", delivery.delivery_id, error)
            return
        finally:
            place.promised -= 1
            desk.woken.set()
        self._give_one(desk, place, delivery)

    def _give_one(self, desk: _Desk, place: _Place, delivery: Delivery) -> None:
        if not place.is_attached:  # it left meanwhile, and never saw it
            return self._reaper.return_one(delivery, "free")
        try:
            place.taker.deliver(delivery)
        except Exception:
            _log.exception("%s could not take %s", place.holder.name, delivery.delivery_id)
            return self._reaper.return_one(delivery, "try")
        self._counters.deliveries += 1
        return None


def _ignoring(action: Callable[[], None], _: bytes) -> None:
    action()
