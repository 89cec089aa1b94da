"""Brings home what nobody will answer: deliveries of takers that went, leases that lapsed, questions that grew old.

What Valkey did not take is tried again. How a delivery ends that came home is decided in `returns`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic

from foundations.errors import CityError, StaleDelivery
from foundations.supervision import Tasks
from foundations.telemetry import Counters, log_event
from foundations.ticks import tick
from smart_city.post_office.answers.returns import Returns
from smart_city.post_office.answers.spoken import Spoken
from smart_city.post_office.inbox.deliveries import RECLAIMED_AT_ONCE, How
from smart_city.post_office.inbox.questions import Delivery, DeliveryId, Reclaimed, UnheardTake
from smart_city.post_office.inbox.store import CircuitChange, Inbox
from smart_city.post_office.keep import Keep

_log = logging.getLogger(__name__)

CONSUMERS_KNOWN_POLLS = 5

MOST_OWED = 10_000
"""What is not brought home comes home when its leases have lapsed."""

Action = Callable[[], Awaitable[None]]


class Reaper:
    """One instance's share of the reaping; ``consumers`` tells how many takers each channel has here that has some.

    What of the agents' ``words`` is held is carried out before anything is taken from them.
    """

    def __init__(
        self, inbox: Inbox, returns: Returns, tasks: Tasks, *, instance_id: str, instance_lease_seconds: float,
        poll_seconds: float, consumers: Callable[[], Mapping[str, int]], words: Spoken, counters: Counters, keep: Keep,
    ) -> None:  # fmt: skip
        self._inbox = inbox
        self._deliveries = inbox.deliveries
        self._returns = returns
        self._tasks = tasks
        self._instance = instance_id
        self._instance_lease = instance_lease_seconds
        self._poll = poll_seconds
        self._consumers = consumers
        self._counters = counters
        self._words = words
        self._keep = keep
        self._counted: set[str] = set()
        """Channels of which it is noted that they have consumers here."""
        self._reaping: asyncio.Task[None] | None = None
        self._homeward: set[asyncio.Task[None]] = set()
        self._owed: list[Action] = []
        """What could not be brought home because Valkey was away."""
        self._is_away = False
        self._leaves_to_leases = False
        self._quiet_until = 0.0

    def start(self) -> None:
        """Begins to reap."""
        self._reaping = self._tasks.start("reaper of the inboxes", self._reap_each_second)

    async def close(self) -> None:
        """Reaps no more, and waits for what is on its way home."""
        if self._reaping is not None:
            self._reaping.cancel()
        with suppress(CityError):
            for channel in self._counted:
                await self._inbox.count_consumers(channel, self._instance, 0, self._poll)
        await asyncio.gather(*self._homeward, return_exceptions=True)

    def hand_back(self, channel: str, holder: str, *, counts: bool) -> None:
        """A taker is gone: what it had is taken from it, as a failed try unless ``counts`` is false."""
        self._bring_home(partial(self._end_all, partial(self._deliveries.hand_back, channel, holder, counts=counts)))

    def take_from(self, instance_id: str) -> None:
        """An instance is gone: what its consumers had is taken from them."""
        for channel in self._inbox.channels:
            self._bring_home(partial(self._end_all, partial(self._deliveries.lost, channel, instance_id)))

    def return_unheard(self, channel: str, take: UnheardTake) -> None:
        """A take got no answer: what it may have brought goes back."""
        self._bring_home(partial(self._end_all, partial(self._deliveries.unheard, channel, take)))

    def return_one(self, delivery: Delivery, how: How) -> None:
        """A delivery found nobody to take it."""
        self._bring_home(partial(self._return, DeliveryId.parse(delivery.delivery_id), how))

    # Bringing home

    def _bring_home(self, action: Action) -> None:
        task = self._tasks.spawn("bringing deliveries home", self._now_or_later(action))
        self._homeward.add(task)
        task.add_done_callback(self._homeward.discard)

    async def _now_or_later(self, action: Action) -> None:
        if self._is_away or self._words.held:
            self._is_away = True
            return self._owe(action)
        try:
            return await action()
        except CityError as error:
            _log.warning("deliveries cannot be brought home yet: %s", error)
            return self._owe(action)

    def _owe(self, action: Action) -> None:
        if len(self._owed) < MOST_OWED:
            self._owed.append(action)
        elif not self._leaves_to_leases:
            self._leaves_to_leases = True
            _log.warning("more than %d things are to be brought home; the rest waits for its leases", MOST_OWED)

    async def _return(self, delivery: DeliveryId, how: How) -> None:
        with suppress(StaleDelivery):
            await self._returns.end(await self._deliveries.take_back(delivery, "closed", how))

    async def _end_all(self, reclaim: Callable[[], Awaitable[Sequence[Reclaimed]]]) -> None:
        """Reclaims in rounds until nothing is left."""
        while True:
            reclaimed = await reclaim()
            if reclaimed:
                first = reclaimed[0]
                _log.info("%d of %s come back (%s)", len(reclaimed), first.delivery.channel, first.why)
            await self._returns.end_all(reclaimed)
            if len(reclaimed) < RECLAIMED_AT_ONCE:
                return

    # Reaping

    def _tell(self, channel: str, changed: CircuitChange) -> None:
        """One instance hears of each change of a circuit, and says so in its log."""
        level = logging.INFO if changed.state == "closed" else logging.WARNING
        log_event(_log, "Inbox circuit changed", level=level, channel=channel, state=changed.state, why=changed.why)
        self._counters.circuits_opened += changed.state == "open"

    async def _reap_each_second(self) -> None:
        while True:
            await tick(self._poll)
            began = monotonic()
            try:
                await self._reap(began)
            except CityError as error:
                if not self._is_away:
                    _log.warning("the inboxes cannot be looked after: %s", error)
                self._is_away = True
            self._is_away = self._is_away or self._keep.has_taken_since(began)

    async def _reap(self, began: float) -> None:
        """Brings home what is owed and what lapsed; after Valkey was away the living and their words come first."""
        due = await self._inbox.due()
        await self._count(due)
        now = asyncio.get_running_loop().time()
        if self._is_away:
            self._is_away, self._quiet_until = False, now + self._instance_lease
        is_quiet = now < self._quiet_until
        if self._owed and not (is_quiet and self._words.held):
            owed, self._owed, self._leaves_to_leases = self._owed, [], False
            self._bring_home(partial(_one_after_the_other, owed))
        for channel in () if is_quiet else due:
            if self._keep.has_taken_since(began):
                return  # it went away in the middle
            await self._end_all(partial(self._deliveries.lapsed, channel))

    async def _count(self, due: Iterable[str]) -> None:
        """Notes consumers where some are or were, and hears of the circuits that are due."""
        known, counts = self._poll * CONSUMERS_KNOWN_POLLS, self._consumers()
        before, self._counted = self._counted, self._counted.union(counts)
        for channel in before.union(counts, due):
            changed = await self._inbox.count_consumers(channel, self._instance, counts.get(channel, 0), known)
            if changed is not None:
                self._tell(channel, changed)
        self._counted = set(counts)


async def _one_after_the_other(actions: Sequence[Action]) -> None:
    """What an outage has gathered is not brought home all at once."""
    for action in actions:
        await action()
