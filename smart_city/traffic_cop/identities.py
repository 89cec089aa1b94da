"""Who stands behind a token: asked at every handshake and every call, with one command to Valkey each.

While Valkey is there every answer is Valkey's, so that a revocation holds at once; only while it is away,
identities that were seen here a short while ago pass from memory. Nothing is created here and nobody is
authorised.
"""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from foundations.errors import RateLimited, Unauthenticated, Unavailable
from foundations.telemetry import log_event
from smart_city.traffic_cop.attempts import Attempts
from smart_city.traffic_cop.memory import Memory
from smart_city.traffic_cop.revocations import Revocation
from smart_city.traffic_cop.service_tokens import ServiceTokens
from smart_city.traffic_cop.sessions import Sessions
from smart_city.traffic_cop.tokens import Token, digest, read_token
from smart_city.vocabulary import OPERATOR, SCOPES, Identity

_log = logging.getLogger("smart_city.traffic_cop")

OPERATOR_IDENTITY = Identity(kind="operator", subject=f"~{OPERATOR}", scopes=frozenset(SCOPES), credential=OPERATOR)


class Identities:
    """Finds the callers behind tokens. Without an ``operator_token`` there is no operator."""

    def __init__(
        self,
        sessions: Sessions,
        service_tokens: ServiceTokens,
        attempts: Attempts,
        *,
        operator_token: str = "",
        cache_seconds: float = 60.0,
        cache_size: int = 65_536,
    ) -> None:
        self._sessions = sessions
        self._service_tokens = service_tokens
        self._attempts = attempts
        self._operator_digest = digest(operator_token) if operator_token else ""
        self._memory = Memory(seconds=cache_seconds, size=cache_size)

    async def admit(self, token: str, *, address: str = "") -> Identity:
        """Who opens a WebSocket with this: as `identify`, and the session behind a ticket, which is used up.

        Raises:
            Unauthenticated, RateLimited, Unavailable: as `identify`.
        """
        return await self._attempted(self._admitted, token, address)

    async def identify(self, token: str, *, address: str = "") -> Identity:
        """The caller behind a session token, a service token, or the operator's, as it came from ``address``.

        Raises:
            Unauthenticated: nobody: unknown, expired, revoked, used up, or no token at all.
            RateLimited: too much that came from there was nobody's, and this token was not seen here lately.
            Unavailable: Valkey is away, and this token was not seen here lately.
        """
        return await self._attempted(self._identified, token, address)

    async def _attempted(self, find: Callable[[str], Awaitable[Identity]], token: str, address: str) -> Identity:
        try:
            self._attempts.check(address)
        except RateLimited:
            if self._memory.recall(digest(token)) is None:
                raise
        try:
            return await find(token)
        except Unauthenticated:
            await self._attempts.failed(address)
            raise

    async def _admitted(self, token: str) -> Identity:
        known = read_token(token)
        if known is not None and known.kind == "tkt":
            return await self._ask(known)
        return await self._identified(token)

    async def _identified(self, token: str) -> Identity:
        if self._is_operators(token):
            self._memory.remember(self._operator_digest, OPERATOR_IDENTITY, time.monotonic())
            return OPERATOR_IDENTITY
        known = read_token(token)
        if known is None:
            raise Unauthenticated("this is not a token of this platform")
        if known.kind == "tkt":
            raise Unauthenticated("a ticket opens one WebSocket and nothing else")
        asked_at = time.monotonic()
        try:
            identity = await self._ask(known)
        except Unavailable:
            if identity_seen := self._memory.recall(known.digest):
                return identity_seen
            raise
        except Unauthenticated:
            self._memory.drop(known.digest)
            raise
        self._memory.remember(known.digest, identity, asked_at)
        return identity

    async def ticket_for(self, token: str) -> str:
        """A single-use token, of a minute, that opens a WebSocket as the session behind ``token``.

        Raises:
            Unauthenticated: ``token`` is not that of a living session.
            Overloaded: the session has too many tickets waiting.
            Unavailable: Valkey is away.
        """
        known = read_token(token)
        if known is None or known.kind != "ses":
            raise Unauthenticated("only a session's token can be exchanged for a ticket")
        return await self._sessions.ticket(await self._sessions.by_token(known))

    async def still_valid(self, identities: Sequence[Identity]) -> list[bool]:
        """Which of these callers would still be let in, for whoever may have missed revocations on the bus.

        Raises:
            Unavailable: Valkey is away.
        """
        sessions = await self._sessions.standing([one.credential for one in identities if one.is_user])
        services = await self._service_tokens.standing([one.credential for one in identities if one.kind == "service"])
        now, standing = time.time(), sessions | services | {OPERATOR_IDENTITY.credential}
        return [one.credential in standing and not 0 < one.expires_at <= now for one in identities]

    def forget(self, payload: bytes) -> None:
        """Takes a revocation from the bus, so that whoever it concerns passes from memory no more."""
        try:
            event = Revocation.read(payload)
        except msgspec.DecodeError:
            log_event(_log, "Revocation not understood", level=logging.WARNING, size=len(payload))
            return
        if event is not None:
            self._memory.revoke(event)

    def revoked_since(self, identity: Identity, moment: float) -> bool:
        """Whether a revocation of this caller was heard at or after ``moment`` of the monotonic clock.

        Who registers a connection asks this afterwards, with the moment before `identify`: a revocation
        that fell in between found no connection to close.
        """
        return self._memory.revoked_since(identity, moment)

    def _is_operators(self, token: str) -> bool:
        """Compares digests: the time that takes tells nothing, whatever the lengths."""
        return bool(self._operator_digest) and hmac.compare_digest(digest(token), self._operator_digest)

    async def _ask(self, token: Token) -> Identity:
        if token.kind == "svc":
            return (await self._service_tokens.by_token(token)).identity()
        return (await self._sessions.by_token(token)).identity()
