"""What this instance appends to a log that it hears itself: the bus need not bring it back, if nobody else listens.

The script's reply says it sooner. The script asks Valkey who listens; this says what is heard here, and makes up for
what was left out where it was heard here no more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from foundations.errors import CityError
from foundations.supervision import Tasks
from foundations.valkey import Valkey
from smart_city.post_office.log.bus import bus_channel, positions
from smart_city.post_office.log.values import Stretch

_log = logging.getLogger(__name__)


class Heard(Protocol):
    """That this instance hears a log over the bus, on the connection that hears ``canary``, too."""

    @property
    def canary(self) -> bytes: ...

    @property
    def stands(self) -> bool:
        """Whether it has heard it without a break since then."""
        ...


HeardHere = Callable[[str], Heard | None]
"""Whether a bus channel is heard here. Whoever hears it is told of what is appended here without the bus."""


class Echo:
    """Which logs of a call are heard here, and what others have to be told afterwards."""

    def __init__(self, valkey: Valkey, tasks: Tasks, heard_here: HeardHere) -> None:
        self._valkey = valkey
        self._tasks = tasks
        # Replies that wait for replicas come late, or never: then it is the bus that tells subscribers.
        self._heard_here = heard_here if valkey.acknowledged is valkey else lambda _: None

    def heard(self, channels: Iterable[str]) -> dict[str, Heard]:
        """Those of the channels that are heard here, all on one connection."""
        found: dict[str, Heard] = {}
        canary = None
        for channel in channels:
            heard = self._heard_here(bus_channel(channel))
            if heard is not None and canary in {None, heard.canary}:
                canary, found[channel] = heard.canary, heard
        return found

    def make_up(self, stretch: Stretch) -> None:
        """Tells the bus of what was counted as heard here and was not any more: somebody else heard it.

        It takes a client that leaves while it publishes.
        """
        try:
            self._tasks.spawn("tell the bus", self._tell(stretch))
        except RuntimeError:  # the tasks' owner has closed them
            _log.debug("others will find the end of %s when they compare", stretch.channel)

    async def _tell(self, stretch: Stretch) -> None:
        try:
            name = self._valkey.key(bus_channel(stretch.channel))
            await self._valkey.command("SPUBLISH", name, positions(stretch))
        except CityError as error:
            _log.warning("the bus was not told of %s, others will find it: %s", stretch.channel, error)
