"""Who takes questions here: consumers with room are served in turn, as soon as there is something to take.

One take is in flight for each channel. What may be taken is decided in `inbox`; what becomes of deliveries whose
taker went is `reaper`'s work.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial

from foundations.errors import CityError
from foundations.supervision import Tasks
from foundations.telemetry import Counters, Traces, is_sampled
from foundations.valkey.subscriptions import Subscriptions
from smart_city.post_office.answers import Answers
from smart_city.post_office.inbox.calls import bus_channel
from smart_city.post_office.inbox.desks import Desk, Place, Taker
from smart_city.post_office.inbox.questions import Delivery, DeliveryId, Holder, UnheardTake
from smart_city.post_office.inbox.reaper import Reaper
from smart_city.post_office.inbox.store import Inbox, Taken
from smart_city.post_office.spans import taken as taken_span

_log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""How often is reaped, and asked without a wake-up while somebody has room: wake-ups may be lost."""
CLOSE_SECONDS = 3.0
STOP = b"stop "


class Dispatcher:
    """The desks of one instance, one for each agent channel.

    ``instance_id`` is this instance's name in the fleet, in this life: the others call `lapsed` with it.
    """

    def __init__(
        self, inbox: Inbox, answers: Answers, subscriptions: Subscriptions, tasks: Tasks, counters: Counters,
        traces: Traces, *, instance_id: str, instance_lease_seconds: float, poll_seconds: float = POLL_SECONDS,
    ) -> None:  # fmt: skip
        self._inbox = inbox
        self._answers = answers
        self._subscriptions = subscriptions
        self._tasks = tasks
        self._counters = counters
        self._traces = traces
        self._instance = instance_id
        self._poll = poll_seconds
        self._desks = {channel: Desk(channel) for channel in inbox.channels}
        self._reaper = Reaper(
            inbox, answers.returns, tasks, instance_id=instance_id, instance_lease_seconds=instance_lease_seconds,
            poll_seconds=poll_seconds, consumers=self.consumers, words=answers.spoken, counters=counters,
            keep=answers.keep,
        )  # fmt: skip
        self._serving: list[asyncio.Task[None]] = []
        self._is_resting = False
        self._is_closing = False

    async def start(self) -> None:
        """Hears wake-ups and begins to serve.

        Raises:
            Unavailable: Valkey does not answer.
        """
        heard = []
        for desk in self._desks.values():
            hear = partial(self._hear, desk)
            heard.append(self._subscriptions.listen(bus_channel(desk.channel), hear, desk.woken.set))
        await asyncio.gather(*heard)
        self._serving = [
            self._tasks.start(f"desk of {desk.channel}", partial(self._serve, desk)) for desk in self._desks.values()
        ]
        self._reaper.start()

    def rest(self) -> None:
        """Takes nothing more; what was taken stays where it is."""
        self._is_resting = True

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
        desk.places.append(Place(taker, holder, stays))
        desk.woken.set()

    def detach(self, channel: str, taker: Taker, *, counts: bool = True) -> None:
        """Serves a taker no more; what it has goes back, as a failed try unless ``counts`` is false."""
        desk = self._desks[channel]
        for place in desk.places:
            if place.taker is taker:
                return self._detach(desk, place, counts=counts)
        return None

    def _detach(self, desk: Desk, place: Place, *, counts: bool) -> None:
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

    def consumers(self) -> dict[str, int]:
        """How many takers each channel has here, but for those that are paused; one that has none is left out."""
        desks = [] if self._is_resting else [desk for desk in self._desks.values() if desk.places]
        return {desk.channel: takers for desk in desks if (takers := desk.takers)}

    # Serving

    def _hear(self, desk: Desk, told: bytes) -> None:
        """What is said on the bus of an inbox: that something may be taken, or that a delivery was stopped."""
        if told.startswith(STOP):
            message_id, _, serial = told[len(STOP) :].decode().partition(" ")
            self._answers.stopped(DeliveryId(desk.channel, message_id, int(serial)))
            desk.stop(f"{desk.channel}/{message_id}/{serial}")
        desk.woken.set()

    async def _serve(self, desk: Desk) -> None:
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

    async def _take(self, desk: Desk) -> float | None:
        """Takes once; returns after how many seconds to take again, ``None``: once somebody has room."""
        plan = [] if self._is_resting else desk.plan()
        if not plan:
            return None
        with desk.taking():
            try:
                taken = await self._inbox.take(
                    desk.channel, [holder for _, holder in plan],
                    is_eager=desk.may_have_the_rest(), consumers=desk.takers,
                )  # fmt: skip
            except UnheardTake as take:
                self._reaper.return_unheard(desk.channel, take)
                raise
            self._give(desk, plan, taken)
        if taken.has_more or len(taken.deliveries) == sum(holder.room for _, holder in plan):
            desk.woken.set()
        if taken.is_left:
            return min(self._poll, desk.leaves())
        desk.leaves_nothing()
        return self._poll if taken.due_in is None else min(self._poll, taken.due_in)

    def _give(self, desk: Desk, plan: Sequence[tuple[Place, Holder]], taken: Taken) -> None:
        for index, delivery in taken.deliveries:
            place, _ = plan[index]
            desk.served(place)
            if delivery.attempt > 1:
                place.promised += 1
                self._tasks.spawn("a further attempt", self._give_again(desk, place, delivery))
            else:
                self._give_one(desk, place, delivery)

    async def _give_again(self, desk: Desk, place: Place, delivery: Delivery) -> None:
        """Gives what was given before, unless it proves answered. If nobody knows, its lease will lapse."""
        try:
            if await self._answers.askers.final_word(delivery.route, delivery.message_id):
                await self._inbox.deliveries.done([DeliveryId.parse(delivery.delivery_id)])
                return
        except CityError as error:
            _log.warning("whether %s is answered cannot be known yet: %s", delivery.delivery_id, error)
            return
        finally:
            place.promised -= 1
            desk.woken.set()
        self._give_one(desk, place, delivery)

    def _give_one(self, desk: Desk, place: Place, delivery: Delivery) -> None:
        if desk.is_stopped(delivery.delivery_id):
            return None
        if not place.is_attached:  # it left meanwhile, and never saw it
            return self._reaper.return_one(delivery, "free")
        is_recorded = self._traces.is_on and is_sampled(delivery.route.traceparent)
        span = taken_span(self._traces, delivery) if is_recorded else None
        try:
            place.taker.deliver(delivery)
        except Exception:
            _log.exception("%s could not take %s", place.holder.name, delivery.delivery_id)
            return self._reaper.return_one(delivery, "try")
        finally:
            if span is not None:
                span.end()
        self._counters.deliveries += 1
        return None
