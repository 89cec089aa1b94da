"""By what right each guest is here: it leaves when its session expires, and when something is revoked.

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
from smart_city.post_office.gateway.close_codes import OVER
from smart_city.post_office.gateway.desk import Admitted, Sessions
from smart_city.post_office.gateway.messages import encode, wire
from smart_city.post_office.gateway.server_frames import SessionExpiring
from smart_city.vocabulary import Identity

_log = logging.getLogger(__name__)

EXPIRING_SECONDS = 60.0
"""How long before the end of a session its client is told."""
CHECKED_AT_ONCE = 500
_Then = Callable[[Admitted], None]


class _Revoked(Struct):
    revoked: Literal["session", "user", "token"]
    id: str


class Credentials:
    """The guests of this instance by what let them in."""

    def __init__(self, sessions: Sessions, tasks: Tasks) -> None:
        self._sessions = sessions
        self._tasks = tasks
        self._by_credential: dict[str, set[Admitted]] = {}
        self._by_user: dict[str, set[Admitted]] = {}
        self._timers: dict[Admitted, asyncio.TimerHandle] = {}

    def add(self, guest: Admitted) -> None:
        """A guest was let in, or has taken a new identity."""
        self._by_user.setdefault(guest.user_id, set()).add(guest)
        self._by_credential.setdefault(guest.identity.credential, set()).add(guest)
        if guest.identity.expires_at:
            left = guest.identity.expires_at - time.time()
            self._at(guest, left - EXPIRING_SECONDS, self._warn)

    def remove(self, guest: Admitted) -> None:
        """A guest is gone, or is about to take a new identity."""
        _discard(self._by_user, guest.user_id, guest)
        _discard(self._by_credential, guest.identity.credential, guest)
        timer = self._timers.pop(guest, None)
        if timer is not None:
            timer.cancel()

    def replace(self, guest: Admitted, identity: Identity) -> None:
        """A guest brought a new token of the same user."""
        self.remove(guest)
        guest.identity = identity
        self.add(guest)

    # Expiry

    def _warn(self, guest: Admitted) -> None:
        moment = datetime.fromtimestamp(guest.identity.expires_at, UTC)
        expires_at = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        warning = SessionExpiring(expires_at=expires_at)
        guest.send(wire(encode(warning)))
        self._at(guest, guest.identity.expires_at - time.time(), self._expire)

    def _expire(self, guest: Admitted) -> None:
        guest.close(OVER, "the session has expired")

    def _at(self, guest: Admitted, seconds: float, then: _Then) -> None:
        self._timers[guest] = asyncio.get_running_loop().call_later(max(0.0, seconds), then, guest)

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
        guests = [guest for found in self._by_user.values() for guest in found]
        for start in range(0, len(guests), CHECKED_AT_ONCE):
            chunk = guests[start : start + CHECKED_AT_ONCE]
            try:
                valid = await self._sessions.still_valid([guest.identity for guest in chunk])
            except CityError as error:
                _log.warning("identities cannot be checked now: %s", error)
                return
            self._end(guest for guest, stands in zip(chunk, valid, strict=True) if not stands)

    def _end(self, guests: Iterable[Admitted]) -> None:
        for guest in list(guests):
            guest.close(OVER, "the session or token was revoked")


def _discard(index: dict[str, set[Admitted]], name: str, guest: Admitted) -> None:
    found = index.get(name, set())
    found.discard(guest)
    if not found:
        index.pop(name, None)
