"""By what right each connection is here: it leaves when its session expires, and when something is revoked.

Revocations come over the bus, whoever made them; after the bus was deaf the sessions are asked instead.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Literal

import msgspec
from msgspec import Struct

from foundations.errors import CityError
from foundations.supervision import Tasks
from smart_city.post_office.gateway.connection import Connection
from smart_city.post_office.gateway.desk import Sessions
from smart_city.post_office.gateway.messages import encode, wire
from smart_city.vocabulary import Identity

_log = logging.getLogger(__name__)

OVER = 4501
EXPIRING_SECONDS = 60.0
"""How long before the end of a session its client is told."""
CHECKED_AT_ONCE = 500
_Then = Callable[[Connection], None]


class _Revoked(Struct):
    revoked: Literal["session", "user", "token"]
    id: str


class Credentials:
    """The connections of this instance by what let them in."""

    def __init__(self, sessions: Sessions, tasks: Tasks) -> None:
        self._sessions = sessions
        self._tasks = tasks
        self._by_credential: dict[str, set[Connection]] = {}
        self._by_user: dict[str, set[Connection]] = {}
        self._timers: dict[Connection, asyncio.TimerHandle] = {}

    def add(self, connection: Connection) -> None:
        """A connection was admitted, or has taken a new identity."""
        self._by_user.setdefault(connection.user_id, set()).add(connection)
        self._by_credential.setdefault(connection.identity.credential, set()).add(connection)
        if connection.identity.expires_at:
            left = connection.identity.expires_at - time.time()
            self._at(connection, left - EXPIRING_SECONDS, self._warn)

    def remove(self, connection: Connection) -> None:
        """A connection is gone, or is about to take a new identity."""
        _discard(self._by_user, connection.user_id, connection)
        _discard(self._by_credential, connection.identity.credential, connection)
        timer = self._timers.pop(connection, None)
        if timer is not None:
            timer.cancel()

    def replace(self, connection: Connection, identity: Identity) -> None:
        """A connection brought a new token of the same user."""
        self.remove(connection)
        connection.identity = identity
        self.add(connection)

    # Expiry

    def _warn(self, connection: Connection) -> None:
        moment = datetime.fromtimestamp(connection.identity.expires_at, UTC)
        expires_at = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        warning = {"type": "system", "event": "session_expiring", "expires_at": expires_at}
        connection.socket.outbox.send(wire(encode(warning)))
        self._at(connection, connection.identity.expires_at - time.time(), self._expire)

    def _expire(self, connection: Connection) -> None:
        connection.socket.close(OVER, "the session has expired")

    def _at(self, connection: Connection, seconds: float, then: _Then) -> None:
        self._timers[connection] = asyncio.get_running_loop().call_later(max(0.0, seconds), then, connection)

    # Revocation

    def hear(self, payload: bytes) -> None:
        """Something was revoked somewhere: whoever came in with it leaves."""
        try:
            event = msgspec.json.decode(payload, type=_Revoked)
        except msgspec.MsgspecError as error:
            _log.warning("a revocation was not understood: %s", error)
            return
        index = self._by_user if event.revoked == "user" else self._by_credential
        self._end(index.get(event.id, ()))

    def check(self) -> None:
        """Asks soon which identities still stand: revocations may have been missed."""
        self._tasks.spawn("check identities", self._check())

    async def _check(self) -> None:
        connections = [connection for found in self._by_user.values() for connection in found]
        for start in range(0, len(connections), CHECKED_AT_ONCE):
            chunk = connections[start : start + CHECKED_AT_ONCE]
            try:
                valid = await self._sessions.still_valid([connection.identity for connection in chunk])
            except CityError as error:
                _log.warning("identities cannot be checked now: %s", error)
                return
            self._end(c for c, stands in zip(chunk, valid, strict=True) if not stands)

    def _end(self, connections: Iterable[Connection]) -> None:
        for connection in list(connections):
            connection.socket.close(OVER, "the session or token was revoked")


def _discard(index: dict[str, set[Connection]], name: str, connection: Connection) -> None:
    found = index.get(name, set())
    found.discard(connection)
    if not found:
        index.pop(name, None)
