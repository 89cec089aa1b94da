"""Readers of frames, lent to the sockets that have something for them to read.

Between two frames a `ServerProtocol` knows nothing of its connection that another one would not know. So a few of them
serve all sockets, and one that says nothing has none (case: idle connections; each is 3.5 kB).
"""

from __future__ import annotations

from websockets.protocol import State
from websockets.server import ServerProtocol

from smart_city.post_office.gateway.handshake import quiet

KEPT = 64
"""Making one takes 14 µs; of more than so many at once the others are made anew."""


class Readers:
    """Readers of messages of at most ``max_bytes``."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._idle: list[ServerProtocol] = []

    def lend(self) -> ServerProtocol:
        """A reader that stands between two frames of an open connection."""
        if self._idle:
            return self._idle.pop()
        return ServerProtocol(state=State.OPEN, max_size=self._max_bytes, logger=quiet)

    def give_back(self, reader: ServerProtocol) -> None:
        """Takes back one that stands there again. One that has said or heard a close does not."""
        if len(self._idle) < KEPT:
            self._idle.append(reader)
