"""The sessions of users, in Valkey: made, found by token or id, refreshed, listed and ended.

A session is written once and never changed; refreshing adds a token. Who may do any of it is not asked
here. The keys of one user share the slot of the user's shard (`tokens` says why):

    session:{7f}:ID          the session as JSON, until the last of its tokens ends
    token:{7f}:DIGEST        the same JSON with the end of this token: what `by_token` reads in one command
    session-tokens:{7f}:ID   digests by their end, for revocation; tickets are among them
    user-sessions:{7f}:USER  session ids by their end, for listing and revoking all
    sessions:{7f}:all        session ids by their end of all users of the shard, for listing everybody's
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from foundations.errors import FieldError, InvalidArgument, Overloaded, Unauthenticated
from foundations.rates import Rate
from foundations.valkey import Script, Valkey
from foundations.valkey.slots import never
from smart_city.traffic_cop.tokens import (
    SHARDS,
    Kind,
    Token,
    digest,
    new_session_id,
    new_token,
    shard_of_session,
    shard_of_user,
)
from smart_city.vocabulary import Grant, Identity

MAX_SESSIONS = 10_000
"""Of one user; more would make revoking them all a long affair."""
MAX_TOKENS = 256
"""Of one session at a time, tickets included."""
MAX_CONTEXT_BYTES = 16 * 1024
"""It is read at every handshake and handed to agents with every message."""
_REVOKED_AT_ONCE = 500


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What a token opens. Times are in seconds since 1970; ``lifetime`` is what its first token was given."""

    session_id: str
    user_id: str
    session_type: str
    context: dict[str, Any]
    grants: tuple[Grant, ...]
    created_at: float
    expires_at: float
    lifetime: float
    rates: dict[str, Rate] = {}
    v: int = 1

    @property
    def shard(self) -> str:
        """Where all keys of this session's user are."""
        return shard_of_user(self.user_id)

    def identity(self) -> Identity:
        """The session as a caller of the city."""
        return Identity(
            kind="session", subject=self.user_id, credential=self.session_id, expires_at=self.expires_at,
            grants=_shared(self.grants), context=self.context, rates=self.rates,
        )  # fmt: skip


class Issued(NamedTuple):
    """A token, shown this once, and the session as that token sees it."""

    token: str
    session: Session


class Listed(NamedTuple):
    """How many sessions a user has, and the ones that live longest."""

    total: int
    sessions: list[Session]


class Sessions:
    """The store of sessions.

    Every method raises `Unavailable` while Valkey is away; whether anything was changed is then unknown.
    """

    def __init__(self, valkey: Valkey, *, ticket_seconds: float = 60.0) -> None:
        self._valkey = valkey
        self._ticket_seconds = ticket_seconds
        package = "smart_city.traffic_cop"
        self._issue_token = Script.read(package, "issue_token")
        self._revoke_sessions = Script.read(package, "revoke_sessions")
        self._list_sessions = Script.read(package, "list_sessions")
        self._longest_sessions = Script.read(package, "longest_sessions")
        self._still_there = Script.read(package, "still_there")

    async def create(
        self,
        user_id: str,
        *,
        session_type: str,
        context: dict[str, Any],
        grants: Sequence[Grant],
        lifetime: float,
        rates: Mapping[str, Rate] = MappingProxyType({}),
    ) -> Issued:
        """Makes a session and its first token, which lives ``lifetime`` seconds.

        Raises:
            InvalidArgument: a context that is too big, or that JSON cannot carry.
            Overloaded: the user has `MAX_SESSIONS`.
        """
        now = time.time()
        session = Session(
            session_id=new_session_id(shard_of_user(user_id)), user_id=user_id, session_type=session_type,
            context=context, grants=tuple(grants), created_at=now, expires_at=now + lifetime,
            lifetime=lifetime, rates=dict(rates),
        )  # fmt: skip
        _check_context(context)
        return Issued(await self._issue("ses", session, lifetime, is_new=True), session)

    async def refresh(self, session: Session, lifetime: float) -> Issued:
        """Adds a token of ``lifetime`` seconds; those that exist live to their own end.

        Raises:
            Unauthenticated: the session has ended.
            Overloaded: it has `MAX_TOKENS`.
        """
        renewed = msgspec.structs.replace(session, expires_at=time.time() + lifetime)
        return Issued(await self._issue("ses", renewed, lifetime, is_new=False), renewed)

    async def ticket(self, session: Session) -> str:
        """A token that opens the session once, within a minute. What it opens ends when ``session`` does.

        Raises:
            Unauthenticated, Overloaded: as `refresh`.
        """
        lifetime = min(self._ticket_seconds, session.expires_at - time.time())
        return await self._issue("tkt", session, lifetime, is_new=False)

    async def by_token(self, token: Token) -> Session:
        """The session that a token opens, in one command; a ticket is used up by it.

        Raises:
            Unauthenticated: it opens none, or none any more.
        """
        command = "GETDEL" if token.kind == "tkt" else "GET"
        found = await self._valkey.command(command, self._key("token", token.shard, token.digest))
        if found is None:
            raise _ended()
        return _session.decode(found)

    async def by_id(self, session_id: str) -> Session | None:
        """The session of this id, as its longest-living token sees it; None when it has ended."""
        shard = shard_of_session(session_id)
        if shard is None:
            return None
        found = await self._valkey.command("GET", self._key("session", shard, session_id))
        return None if found is None else _session.decode(found)

    async def of_user(self, user_id: str, limit: int) -> Listed:
        """The user's living sessions, at most ``limit`` (below 1000) of them."""
        shard = shard_of_user(user_id)
        total, found = await self._valkey.run(
            self._list_sessions,
            [self._key("user-sessions", shard, user_id), self._never(shard)],
            [self._key("session", shard, ""), limit],
        )
        return Listed(total, [_session.decode(one) for one in found if one is not None])

    async def of_everybody(self, limit: int) -> Listed:
        """The living sessions of all users, at most ``limit`` of them: one small question to each shard."""
        shards = await asyncio.gather(*(self._longest(shard, limit) for shard in SHARDS))
        ends = sorted(((end, session_id) for _, ends in shards for end, session_id in ends), reverse=True)
        found = await asyncio.gather(*(self.by_id(session_id) for _, session_id in ends[:limit]))
        return Listed(sum(total for total, _ in shards), [session for session in found if session is not None])

    async def _longest(self, shard: str, limit: int) -> tuple[int, list[tuple[float, str]]]:
        """How many sessions a shard has, and the end and id of those that live longest."""
        keys = [self._key("sessions", shard, "all"), self._never(shard)]
        total, told = await self._valkey.run(self._longest_sessions, keys, [limit])
        return total, [(float(end), name.decode()) for name, end in zip(told[::2], told[1::2], strict=True)]

    async def revoke(self, session_id: str) -> int:
        """Ends a session and all its tokens and tickets. Returns how many sessions ended: 1, or 0."""
        session = await self.by_id(session_id)
        if session is None:
            return 0
        _, ended = await self._revoke(session.user_id, session_id)
        return ended

    async def revoke_user(self, user_id: str) -> int:
        """Ends all sessions of a user, a stretch at a time. Returns how many there were.

        Called again after a failure it goes on where it stopped.
        """
        ended, taken = 0, _REVOKED_AT_ONCE
        while taken == _REVOKED_AT_ONCE:
            taken, stood = await self._revoke(user_id, "")
            ended += stood
        return ended

    async def standing(self, session_ids: Iterable[str]) -> set[str]:
        """Those of the sessions that have not ended; one call for each of their shards, all at once."""
        shards: defaultdict[str, list[str]] = defaultdict(list)
        for session_id in set(session_ids):
            if shard := shard_of_session(session_id):
                shards[shard].append(session_id)
        return set().union(*await asyncio.gather(*(self._standing(*of_shard) for of_shard in shards.items())))

    async def _standing(self, shard: str, session_ids: Sequence[str]) -> set[str]:
        keys = [self._key("session", shard, session_id) for session_id in session_ids]
        flags = await self._valkey.run(self._still_there, keys, [])
        return {session_id for session_id, flag in zip(session_ids, flags, strict=True) if flag}

    async def _issue(self, kind: Kind, session: Session, lifetime: float, *, is_new: bool) -> str:
        milliseconds = round(lifetime * 1000)
        if milliseconds <= 0:
            raise _ended()
        shard, session_id = session.shard, session.session_id
        token = new_token(kind, shard)
        most = MAX_SESSIONS if is_new else MAX_TOKENS
        outcome, *wait = await self._valkey.run(
            self._issue_token,
            [
                self._key("session", shard, session_id), self._key("session-tokens", shard, session_id),
                self._key("user-sessions", shard, session.user_id), self._key("token", shard, digest(token)),
                self._key("sessions", shard, "all"),
            ],
            [
                session_id, digest(token), milliseconds, msgspec.json.encode(session),
                "new" if is_new else "again", most,
            ],
        )  # fmt: skip
        if outcome == b"gone":
            raise _ended()
        if outcome == b"full":
            holder, things = ("user", "sessions") if is_new else ("session", "tokens")
            raise Overloaded(f"this {holder} has {most} {things} already", retry_after=wait[0] / 1000)
        return token

    async def _revoke(self, user_id: str, session_id: str) -> tuple[int, int]:
        shard = shard_of_user(user_id)
        taken, ended = await self._valkey.run(
            self._revoke_sessions,
            [self._key("user-sessions", shard, user_id), self._key("sessions", shard, "all"), self._never(shard)],
            [
                *(self._key(stem, shard, "") for stem in ("session", "session-tokens", "token")),
                _REVOKED_AT_ONCE, session_id,
            ],
        )  # fmt: skip
        return taken, ended

    def _key(self, stem: str, shard: str, name: str) -> str:
        return self._valkey.key(f"{stem}:{{{shard}}}:{name}")

    def _never(self, shard: str) -> str:
        return never(self._valkey.key(f"sessions:{{{shard}}}"))


_session = msgspec.json.Decoder(Session)


@lru_cache(maxsize=4096)
def _shared(grants: tuple[Grant, ...]) -> tuple[Grant, ...]:
    """The same grants, once for all sessions that have them: each connection's own were 1.2 kB (case: idle)."""
    return grants


def _ended() -> Unauthenticated:
    return Unauthenticated("this token opens nothing: it is unknown, has expired, or was revoked")


def _check_context(context: dict[str, Any]) -> None:
    try:
        size = len(msgspec.json.encode(context))
    except (TypeError, ValueError, RecursionError) as error:
        told = f"cannot be kept as JSON: {error}"
    else:
        if size <= MAX_CONTEXT_BYTES:
            return
        told = f"is {size} bytes of JSON, at most {MAX_CONTEXT_BYTES} can be"
    raise InvalidArgument(f"context {told}", errors=[FieldError("context", told)])
