"""What is kept of sessions, in the store: which there are, what each has subscribed to, and what it was told.

All of one caller lies in one slot, and nothing outlives its session for longer than a day. Who listens is no matter
of this module.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

from foundations.errors import NotFound, Overloaded
from foundations.valkey import Script, Valkey
from foundations.valkey.slots import never

_PACKAGE = "city_hall.surfaces.mcp"
KEPT_SECONDS = 86_400
"""A session that nobody uses is kept for a day, so that a client that comes back is told what it missed."""
FRESH_SECONDS = 60
"""A session that was used so lately need not be written again for being used."""
_NAME = re.compile(r"[0-9a-f]{32}", re.ASCII)
_PARTS = ("uris", "told")


class SessionName(NamedTuple):
    """A session: whose it is, and the name that it was given. Nobody can name another's."""

    caller: str
    name: str

    @classmethod
    def of(cls, subject: str, given: str) -> SessionName | None:
        """The session that a caller names; None when no session is ever called so."""
        return cls(_digest(subject), given) if _NAME.fullmatch(given) else None

    @classmethod
    def new(cls, subject: str) -> SessionName:
        """One that there has never been."""
        return cls(_digest(subject), secrets.token_hex(16))


def _digest(subject: str) -> str:
    return sha256(subject.encode()).hexdigest()[:32]


class SessionStore:
    """The sessions of all callers. Each caller has at most ``most``."""

    def __init__(self, valkey: Valkey, *, most: int) -> None:
        self._valkey = valkey
        self._most = most
        self._begin = Script.read(_PACKAGE, "begin")
        self._use = Script.read(_PACKAGE, "use")

    async def begin(self, session: SessionName) -> Sequence[SessionName]:
        """Writes a new session; returns those that ended for it, because the caller had too many.

        Raises:
            Unavailable, Overloaded: the store is away, or full.
        """
        what = (session.name, self._most, KEPT_SECONDS * 1000)
        keys = [self._sessions(session), never(self._sessions(session))]
        names = await self._valkey.run(self._begin, keys, what)
        ended = [SessionName(session.caller, name.decode()) for name in names]
        for one in ended:
            await self._forget(one)
        return ended

    async def use(self, session: SessionName, told: Mapping[str, int] | None = None) -> None:
        """Puts the session's end off, and keeps up to which offset changes of URIs were told.

        Raises:
            NotFound: there is no such session (any more).
            Unavailable: the store is away.
        """
        await self._used(session, told or {}, most=0)

    async def subscribe(self, session: SessionName, uri: str, offset: int, *, most: int) -> None:
        """Adds a subscription that was told all up to an offset.

        Raises:
            NotFound: there is no such session (any more).
            Overloaded: it has as many subscriptions as it may.
            Unavailable: the store is away.
        """
        await self._used(session, {uri: offset}, most=most)

    async def unsubscribe(self, session: SessionName, uri: str) -> None:
        """Forgets a subscription."""
        uris, told = self._parts(session)
        await self._valkey.command("SREM", uris, uri)
        await self._valkey.command("HDEL", told, uri)

    async def subscriptions(self, session: SessionName) -> Mapping[str, int | None]:
        """The URIs subscribed to, each with the offset up to which it was told."""
        uris, told = self._parts(session)
        subscribed = await self._valkey.command("SMEMBERS", uris)
        offsets = await self._valkey.command("HGETALL", told)
        return {uri.decode(): int(offsets[uri]) if uri in offsets else None for uri in sorted(subscribed)}

    async def end(self, session: SessionName) -> None:
        """Forgets a session.

        Raises:
            NotFound: there is no such session (any more).
        """
        if not await self._valkey.command("ZREM", self._sessions(session), session.name):
            raise unknown()
        await self._forget(session)

    async def _forget(self, session: SessionName) -> None:
        await self._valkey.command("DEL", *self._parts(session))

    async def _used(self, session: SessionName, told: Mapping[str, int], *, most: int) -> None:
        pairs = [word for pair in told.items() for word in pair]
        keys = [self._sessions(session), *self._parts(session)]
        what = [session.name, KEPT_SECONDS * 1000, FRESH_SECONDS * 1000, most, *pairs]
        outcome = await self._valkey.run(self._use, keys, what)
        if outcome == b"gone":
            raise unknown()
        if outcome == b"full":
            raise Overloaded(f"a session may have {most} subscriptions; end one with resources/unsubscribe")

    def _sessions(self, session: SessionName) -> str:
        return self._valkey.key(f"mcp:{{{session.caller}}}:sessions")

    def _parts(self, session: SessionName) -> list[str]:
        return [self._valkey.key(f"mcp:{{{session.caller}}}:{session.name}:{part}") for part in _PARTS]


def unknown() -> NotFound:
    """What a client is told of a session that is over, or never was."""
    return NotFound("there is no such session (any more): begin another with initialize, without Mcp-Session-Id")
