"""Openings: feeds that are not heard yet, opened together, those that one turn of the loop brings for one slot.

They are heard first and read then, so that nothing falls in between. What becomes of a feed is the hub's matter.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from foundations.errors import CityError, Unavailable
from foundations.supervision import Tasks
from foundations.valkey.subscriptions import Subscriptions
from smart_city.post_office.gateway.feed import Feed
from smart_city.post_office.log import ChannelLog
from smart_city.post_office.log.bus import bus_channel

_log = logging.getLogger(__name__)

AT_ONCE = 500
"""Feeds in one round: a connection brings two of its own, thousands of connections thousands."""
OPENING_SECONDS = 2.0


class Round:
    """Some feeds of one slot on their way, and who waits for them."""

    def __init__(self) -> None:
        self.feeds: list[Feed] = []
        self.fresh: set[Feed] = set()
        """Those whose logs nobody can have written to yet: they are heard, but not read."""
        self._waiting: list[asyncio.Future[None]] = []

    async def over(self) -> None:
        """Waits until all are open or refused."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    def end(self) -> None:
        """Tells all who wait."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)


class Openings:
    """The rounds of this instance. ``settle`` is told of each feed when it is positioned, or has its refusal."""

    def __init__(
        self, log: ChannelLog, subscriptions: Subscriptions, tasks: Tasks, settle: Callable[[Feed], None]
    ) -> None:
        self._log = log
        self._subscriptions = subscriptions
        self._tasks = tasks
        self._settle = settle
        self._gathering: dict[int, Round] = {}
        """By slot: of a cluster one node may hang, and the others do not wait for it."""

    def add(self, feed: Feed, *, is_fresh: bool) -> None:
        """Opens a feed with the others of this turn.

        Raises:
            RuntimeError: the instance ends, and opens nothing any more.
        """
        slot = self._log.slot_of(feed.channel)
        gathering = self._gathering.get(slot)
        if gathering is None or len(gathering.feeds) >= AT_ONCE:
            gathering = Round()
            self._tasks.spawn("open feeds", self._open(gathering, slot))
            self._gathering[slot] = gathering
        gathering.feeds.append(feed)
        if is_fresh:
            gathering.fresh.add(feed)
        feed.opening = gathering

    async def _open(self, opening: Round, slot: int) -> None:
        if self._gathering.get(slot) is opening:
            del self._gathering[slot]
        try:
            async with asyncio.timeout(OPENING_SECONDS):
                await self._hear(opening)
                await self._find(opening)
        except (CityError, TimeoutError) as error:
            _refuse(opening, error if isinstance(error, CityError) else deaf())
        except Exception as error:  # whoever waits is told of a defect
            _refuse(opening, error)
        except BaseException:
            _refuse(opening, deaf())
            raise
        finally:
            for feed in opening.feeds:
                feed.opening = None
                self._settle(feed)
            opening.end()

    async def _hear(self, opening: Round) -> None:
        confirmed = []
        for feed in _held(opening):
            try:
                confirmed.append(self._subscriptions.listen(bus_channel(feed.channel), feed.heard, feed.confirmed))
            except Exception as error:  # a defect in one of them is not the others'
                feed.refusal = error
        if confirmed:
            await asyncio.wait(confirmed)
        for feed in opening.feeds:
            feed.is_in_doubt = False

    async def _find(self, opening: Round) -> None:
        feeds = [feed for feed in _held(opening) if feed not in opening.fresh]
        if not feeds:
            return
        found = await self._log.opened([feed.channel for feed in feeds])
        for feed in feeds:
            opened = found[feed.channel]
            feed.opened_at = feed.position = opened.newest
            feed.has_streams = opened.has_streams


def _held(opening: Round) -> list[Feed]:
    """Those that somebody still wants and that can be had."""
    return [feed for feed in opening.feeds if feed.holders and feed.refusal is None]


def _refuse(opening: Round, refusal: Exception) -> None:
    for feed in opening.feeds:
        feed.refusal = feed.refusal or refusal


def deaf() -> Unavailable:
    """What is answered while the bus cannot be heard."""
    return Unavailable("the bus between the instances does not answer", retry_after=1)
