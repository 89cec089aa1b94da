"""Heartbeats: a frame and a ping to every connection at its turn, and the end of those that no longer answer.

The connections of an instance are spread evenly over the heartbeat's length, so that no moment has to serve all.
"""

from __future__ import annotations

import asyncio
import itertools

from foundations.supervision import Tasks
from smart_city.post_office.envelopes import timestamp
from smart_city.post_office.gateway.close_codes import SILENT
from smart_city.post_office.gateway.connection import Connection

MISSED = 2
TURNS = 25
"""Into so many turns a heartbeat is divided: one a second at the default of 25 seconds."""


class Heartbeats:
    """The heartbeat of every connection of this instance, ``seconds`` apart."""

    def __init__(self, tasks: Tasks, *, seconds: float) -> None:
        self.seconds = seconds
        self._tasks = tasks
        self._turns: list[set[Connection]] = [set() for _ in range(TURNS)]

    def start(self) -> None:
        """Begins to beat."""
        self._tasks.start("heartbeats", self._beat)

    def add(self, connection: Connection) -> None:
        """A new connection has its turn from now on."""
        self._turn_of(connection).add(connection)

    def remove(self, connection: Connection) -> None:
        """A connection is gone."""
        self._turn_of(connection).discard(connection)

    def _turn_of(self, connection: Connection) -> set[Connection]:
        """An id is random, so that the turns are alike."""
        return self._turns[int(connection.connection_id[1:9], 16) % TURNS]

    async def _beat(self) -> None:
        for turn in itertools.cycle(range(TURNS)):
            await asyncio.sleep(self.seconds / TURNS)
            now = timestamp()
            for connection in list(self._turns[turn]):
                self._visit(connection, now)

    def _visit(self, connection: Connection, now: str) -> None:
        if connection.unanswered_heartbeats >= MISSED and not connection.is_lagging:
            connection.socket.close(SILENT, "two heartbeats without an answer")
            return
        if connection.unanswered_heartbeats == 0:
            connection.last_heartbeat = now
        if not connection.is_lagging:  # it would hear this one late; that it takes anything its outbox watches
            connection.unanswered_heartbeats += 1
        connection.beat()
