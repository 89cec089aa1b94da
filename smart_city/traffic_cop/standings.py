"""How somebody stands under any limit, by the name of the limit and of whoever is held to it.

It looks and spends nothing; `docs/protocol.md` lists the limits.
"""

from __future__ import annotations

from foundations.errors import NotFound
from foundations.proxies import UNKNOWN, household
from smart_city.traffic_cop.limits import Bucket, Limits, channel_limit
from smart_city.traffic_cop.results import RateLimitStanding
from smart_city.traffic_cop.service_tokens import ServiceTokens
from smart_city.traffic_cop.sessions import Sessions
from smart_city.vocabulary import Identity

CALLER_LIMITS = ("messages", "calls")
ADDRESS_LIMITS = ("handshakes", "failures")


class Standings:
    """Finds the bucket that a limit and a subject name."""

    def __init__(self, limits: Limits, sessions: Sessions, service_tokens: ServiceTokens) -> None:
        self._limits = limits
        self._sessions = sessions
        self._service_tokens = service_tokens

    async def of(self, subject: str, limit: str) -> RateLimitStanding:
        """How ``subject`` stands.

        Raises:
            NotFound: no such limit; a session or token that there is not, or no more; what is no address.
            Unavailable: Valkey is away.
        """
        bucket = await self._bucket(subject, limit)
        if bucket is None:
            raise NotFound(f"{limit!r} is no limit, or an operation without a rate of its own")
        standing = await self._limits.standing(bucket)
        return RateLimitStanding(
            allowed=standing.remaining > 0, remaining=standing.remaining, retry_after=standing.retry_after
        )

    async def _bucket(self, subject: str, limit: str) -> Bucket | None:
        level, _, name = limit.rpartition(".")
        if limit in CALLER_LIMITS:
            return self._limits.bucket(subject, limit)
        if level in {"session", "token"} and name in CALLER_LIMITS:
            held = await self._credential(level, subject)
            return self._limits.bucket_of_credential(held, name) or self._limits.bucket(held.subject, name)
        if limit.startswith(channel_limit("")):
            return self._of_grant(await self._credential("session", subject), limit)
        if level == "address" and name in ADDRESS_LIMITS:
            if household(subject) == UNKNOWN:
                raise NotFound(f"{subject!r} is no address, as in 203.0.113.7")
            return self._limits.bucket_of_address(subject, name)
        return self._limits.bucket_of_operation(subject, limit)

    def _of_grant(self, session: Identity, limit: str) -> Bucket | None:
        named = [grant for grant in session.grants if channel_limit(grant.pattern) == limit]
        return self._limits.bucket_of_grant(session, named[0]) if named else None

    async def _credential(self, level: str, credential: str) -> Identity:
        store = self._sessions if level == "session" else self._service_tokens
        found = await store.by_id(credential)
        if found is None:
            raise NotFound(f"there is no {level} of this id, or it has ended")
        return found.identity()
