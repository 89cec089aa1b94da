"""One channel as a client holds it: who reads it, up to where, and how it stands with the platform.

It is a record; what is done with it is said in `subscriptions`.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto

from city_client.cursors import Cursor
from city_client.errors import ClientError
from city_client.frames import Position
from city_client.subscription import Subscription


class State(Enum):
    """Where a channel stands with the platform."""

    WANTED = auto()
    ASKED = auto()
    LIVE = auto()
    BEHIND = auto()


class Held:
    """One channel of this client; the private channels of a connection have no reader."""

    __slots__ = ("asked", "cursor", "reader", "settled", "state")

    def __init__(self, position: Position | None, reader: Subscription | None) -> None:
        self.cursor = Cursor(position)
        self.reader = reader
        self.state = State.WANTED
        self.asked = ""
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle(self, error: ClientError | None = None) -> None:
        """Says once how the first subscribe went."""
        if self.settled.done():
            return
        if error is None:
            self.settled.set_result(None)
        else:
            self.settled.set_exception(error)
            self.settled.exception()  # whoever waits has it; nobody need wait
