"""The takers of one channel on one instance, and whose turn it is.

Values that `dispatch` works with; nothing here talks to the store.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from time import monotonic
from typing import Protocol

from smart_city.post_office.inbox.questions import Delivery, Holder

TAKEN_AT_ONCE = 128
"""About: each who has room is named once with a fair part of it."""
LEFT_SECONDS = 0.02
"""For so long what is more than an instance's share is left to the consumers of others."""


class Taker(Protocol):
    """A socket's consumer, or a waiting call. ``deliver`` makes ``room`` smaller and does not wait.

    One that ``is_paused`` counts as none. ``stop``: nobody wants an answer to this delivery any more, if it is one of
    its own.
    """

    @property
    def name(self) -> str: ...
    @property
    def room(self) -> int: ...
    @property
    def is_paused(self) -> bool: ...
    def deliver(self, delivery: Delivery) -> None: ...
    def stop(self, delivery_id: str) -> None: ...


@dataclass(slots=True, eq=False)
class Place:
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
class Desk:
    """One channel's takers here, in the order in which they are served next."""

    channel: str
    places: deque[Place] = field(default_factory=deque)
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    rest_at: float | None = None
    """When it may have what consumers of other instances had their chance of."""
    is_taking: bool = False
    _stopped: set[str] = field(default_factory=set)
    """Deliveries that are on their way to a taker, and were stopped already."""

    @property
    def takers(self) -> int:
        """How many take here, now or as soon as they have room."""
        return sum(not place.taker.is_paused for place in self.places)

    @contextmanager
    def taking(self) -> Iterator[None]:
        """What is stopped meanwhile is given to nobody."""
        if not self._has_promised:
            self._stopped.clear()
        self.is_taking = True
        try:
            yield
        finally:
            self.is_taking = False

    def stop(self, delivery_id: str) -> None:
        """Nobody wants an answer to this delivery, whether its taker has it or not yet."""
        if self.is_taking or self._has_promised:
            self._stopped.add(delivery_id)
        for place in list(self.places):
            place.taker.stop(delivery_id)

    def is_stopped(self, delivery_id: str) -> bool:
        """Whether that was so before it reached its taker."""
        return delivery_id in self._stopped

    def plan(self) -> list[tuple[Place, Holder]]:
        """Who is to get the next messages, and how many at most; whoever was given one last comes last."""
        rooms = [(place, room) for place in self.places if (room := place.room) > 0][:TAKEN_AT_ONCE]
        each = ceil(TAKEN_AT_ONCE / max(1, len(rooms)))
        return [(place, place.holder._replace(room=min(room, each))) for place, room in rooms]

    def served(self, place: Place) -> None:
        """It was given a message: the others are first now. A take that brought nothing changes no turn."""
        if place.is_attached:
            self.places.remove(place)
            self.places.append(place)

    def leaves_nothing(self) -> None:
        """What comes next is others' again for a moment."""
        self.rest_at = None

    def leaves(self) -> float:
        """Something is left to others for a moment; returns for how many seconds."""
        if self.rest_at is None:
            self.rest_at = monotonic() + LEFT_SECONDS
        return max(0.0, self.rest_at - monotonic())

    def may_have_the_rest(self) -> bool:
        """Whether that moment is over."""
        is_over = self.rest_at is not None and monotonic() >= self.rest_at
        if is_over:
            self.rest_at = None
        return is_over

    @property
    def _has_promised(self) -> bool:
        return any(place.promised for place in self.places)
