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
from smart_city.post_office.gateway.groups import Groups
from smart_city.post_office.gateway.messages import encode, wire
from smart_city.post_office.gateway.server_frames import SessionExpiring
from smart_city.vocabulary import Identity

_log = logging.getLogger(__name__)

EXPIRING_SECONDS = 60.0
"""How long before the end of a session its client is told."""
LOOK_SECONDS = 30.0
"""How often it is looked whose session ends soon. Only these have timers, which are 400 bytes each."""
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
        self._by_credential: Groups[Admitted] = Groups()
        self._by_user: Groups[Admitted] = Groups()
        self._timers: dict[Admitted, asyncio.TimerHandle] = {}

    def start(self) -> None:
        """Begins to look whose session ends."""
        self._tasks.start("expiring sessions", self._look)

    def add(self, guest: Admitted) -> None:
        """A guest was let in, or has taken a new identity."""
        self._by_user.add(guest.user_id, guest)
        self._by_credential.add(guest.identity.credential, guest)
        self._warn_in_time(guest, time.time())

    def remove(self, guest: Admitted) -> None:
        """A guest is gone, or is about to take a new identity."""
        self._by_user.discard(guest.user_id, guest)
        self._by_credential.discard(guest.identity.credential, guest)
        timer = self._timers.pop(guest, None)
        if timer is not None:
            timer.cancel()

    def replace(self, guest: Admitted, identity: Identity) -> None:
        """A guest brought a new token of the same user."""
        self.remove(guest)
        guest.identity = identity
        self.add(guest)

    # Expiry

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = time.time()
            for guest in self._by_user:
                self._warn_in_time(guest, now)

    def _warn_in_time(self, guest: Admitted, now: float) -> None:
        """Has a guest warned before its session ends, if that is before it is looked again."""
        left = guest.identity.expires_at - EXPIRING_SECONDS - now
        if guest.identity.expires_at and left < 2 * LOOK_SECONDS and guest not in self._timers:
            self._at(guest, left, self._warn)

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
        self._end(index.of(event.id))

    def check(self) -> None:
        """Asks soon which identities still stand: revocations may have been missed."""
        self._tasks.spawn("check identities", self._check())

    async def _check(self) -> None:
        guests = list(self._by_user)
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
