"""What the city may ask of the Traffic Cop: sessions, service tokens, rate limits.

Each method is an operation, whole with its declaration; who stands behind a token is `Identities`' to
say, and what is kept where, the stores'. What is revoked here is told on the bus; sockets are closed by
who holds them.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence

from foundations.errors import FieldError, Forbidden, InvalidArgument, NotFound, Unauthenticated
from foundations.operations import ANY_TOKEN, exactly_one_of, operation
from foundations.rates import Rate
from foundations.telemetry import log_event
from foundations.valkey import Valkey
from smart_city.traffic_cop.arguments import (
    Channels,
    Context,
    LimitName,
    ListLimit,
    Realm,
    Scopes,
    ServiceTokenSeconds,
    SessionId,
    SessionSeconds,
    SessionToken,
    SessionType,
    Subject,
    TokenId,
    UserId,
)
from smart_city.traffic_cop.grants import DEFAULT_GRANTS, parse_grants
from smart_city.traffic_cop.limits import Limits
from smart_city.traffic_cop.own_rates import OwnRates, check_grant_rates, granted_rates
from smart_city.traffic_cop.results import (
    CallerIdentity,
    CreatedServiceToken,
    CreatedSession,
    ListedServiceTokens,
    ListedSessions,
    RateLimitStanding,
    Revoked,
    ServiceTokenDetails,
    SessionDetails,
)
from smart_city.traffic_cop.revocations import Revocation
from smart_city.traffic_cop.service_tokens import ServiceTokens
from smart_city.traffic_cop.sessions import Session, Sessions
from smart_city.traffic_cop.standings import Standings
from smart_city.traffic_cop.tokens import read_token
from smart_city.vocabulary import OPERATOR, SCOPES, USER_PATTERN, Identity

_log = logging.getLogger("smart_city.traffic_cop")

_EXAMPLE_TOKEN = "ses_7f" + "x" * 43
_EXAMPLE_SESSION = "7fXk3v9Qm2Lr8TnB5wYc1Zp0"
_USER = re.compile(USER_PATTERN)


class TrafficCop:
    """The operations of the service ``traffic_cop``."""

    def __init__(
        self,
        valkey: Valkey,
        sessions: Sessions,
        service_tokens: ServiceTokens,
        limits: Limits,
        *,
        session_seconds: float = 3600.0,
    ) -> None:
        self._valkey = valkey
        self._sessions = sessions
        self._service_tokens = service_tokens
        self._limits = limits
        self._standings = Standings(limits, sessions, service_tokens)
        self._session_seconds = session_seconds

    @operation(
        scope="traffic_cop.sessions",
        example={
            "user_id": "alice",
            "ttl_seconds": 3600,
            "channels": {"guide": ["subscribe", "send", "history"], "pillar:*": ["subscribe"]},
        },
        rate=Rate(1000, 2000),
    )
    async def create_session(
        self,
        caller: Identity,
        user_id: UserId,
        session_type: SessionType = "user",
        context: Context | None = None,
        ttl_seconds: SessionSeconds | None = None,
        channels: Channels | None = None,
        rates: OwnRates | None = None,
    ) -> CreatedSession:
        """Creates a session for a user and returns its token, this once.

        Without `channels` the session may subscribe, send and read history on the agent channels and
        see `system:health`. Its own `user:` and `connection:` channels it has in any case. Without
        `ttl_seconds` it lives an hour, if the platform is not set otherwise. `rates` hold it to less than
        its user; a caller with rates of its own gives no more than these, and these if none are named. A
        channel's rights may come with a rate for what is sent to it.

        Errors: `invalid_argument` (a user id, a grant or a context that cannot be), `forbidden` (rates that the
        caller cannot give), `overloaded` (the user has ten thousand sessions).
        """
        if not _USER.fullmatch(user_id):  # asked here too, because an id with ~ would name a service
            raise _wrong("user_id", "cannot be the id of a user")
        grants = DEFAULT_GRANTS if channels is None else parse_grants(channels)
        check_grant_rates(caller, grants, self._limits.most("session"))
        issued = await self._sessions.create(
            user_id,
            session_type=session_type,
            context=context or {},
            grants=grants,
            lifetime=ttl_seconds or self._session_seconds,
            rates=granted_rates(caller, rates, self._limits.most("session")),
        )
        return CreatedSession.of(issued)

    @operation(scope="traffic_cop.sessions", read_only=True, example={"session_token": _EXAMPLE_TOKEN})
    async def validate_session(self, caller: Identity, session_token: SessionToken) -> SessionDetails:
        """Tells whose session a token opens, with its context and grants.

        `expires_at` is when this token ends; another of the same session may live longer.

        Errors: `unauthenticated` (the token opens no session: unknown, expired, revoked, or of another
        kind).
        """
        return SessionDetails.of(await self._opened_by(session_token))

    @operation(scope="traffic_cop.sessions", read_only=True, example={"session_id": _EXAMPLE_SESSION})
    async def get_session(self, caller: Identity, session_id: SessionId) -> SessionDetails:
        """Describes the living session of this id; its tokens are never shown.

        Errors: `not_found` (there is none, or it has ended).
        """
        session = await self._sessions.by_id(session_id)
        if session is None:
            raise NotFound("there is no session of this id, or it has ended")
        return SessionDetails.of(session)

    @operation(
        scope="traffic_cop.sessions",
        sessions=True,
        example={"session_token": _EXAMPLE_TOKEN, "ttl_seconds": 3600},
    )
    async def refresh_session(
        self,
        caller: Identity,
        session_token: SessionToken | None = None,
        ttl_seconds: SessionSeconds | None = None,
    ) -> CreatedSession:
        """Returns a new token of the same session; the old ones live to their own ends, no socket is touched.

        A service names the session by a token of it; a session means itself. Without `ttl_seconds` the new
        token lives as long as the first one was given; a session cannot give itself more than that.

        Errors: `unauthenticated` (the session has ended), `forbidden` (somebody else's session, more time than a
        session may give itself, a service that names no token), `overloaded` (the session has 256 tokens).
        """
        session = await self._to_refresh(caller, session_token)
        if caller.is_user and (ttl_seconds or 0) > session.lifetime:
            raise Forbidden(f"a session may refresh itself for {session.lifetime:g} seconds at most")
        return CreatedSession.of(await self._sessions.refresh(session, ttl_seconds or session.lifetime))

    @operation(
        scope="traffic_cop.sessions",
        destructive=True,
        idempotent=True,
        example={"session_id": _EXAMPLE_SESSION},
        rules=[exactly_one_of("session_id", "user_id")],
    )
    async def revoke_session(
        self, caller: Identity, session_id: SessionId | None = None, user_id: UserId | None = None
    ) -> Revoked:
        """Ends one session, or all of a user, with their tokens; sockets close within a second everywhere.

        Returns how many sessions ended: none when they had ended before, which is no error. When it fails,
        call it again: it goes on where it stopped.

        Errors: `invalid_argument` (neither or both of `session_id` and `user_id`).
        """
        if session_id is not None and user_id is None:
            revoked, event = await self._sessions.revoke(session_id), Revocation("session", session_id)
        elif user_id is not None and session_id is None:
            revoked, event = await self._sessions.revoke_user(user_id), Revocation("user", user_id)
        else:
            raise _wrong("session_id", "give either session_id or user_id")
        await self._tell(caller, event)
        return Revoked(revoked=revoked)

    @operation(scope="traffic_cop.sessions", read_only=True, example={"user_id": "alice"}, rate=Rate(20, 100))
    async def list_sessions(
        self, caller: Identity, user_id: UserId | None = None, limit: ListLimit = 100
    ) -> ListedSessions:
        """Lists living sessions, a user's or everybody's, those that live longest first, without their tokens.

        `total` counts them all.
        """
        if user_id is None:
            listed = await self._sessions.of_everybody(limit)
        else:
            listed = await self._sessions.of_user(user_id, limit)
        sessions = [SessionDetails.of(session) for session in listed.sessions]
        return ListedSessions(user_id=user_id, total=listed.total, sessions=sessions)

    @operation(scope=ANY_TOKEN, sessions=True, read_only=True, example={})
    async def get_caller_identity(self, caller: Identity) -> CallerIdentity:
        """Tells whose token calls, what it may do, and when it ends; the token itself is never shown."""
        return CallerIdentity.of(caller)

    @operation(
        scope="traffic_cop.admin",
        example={"realm": "content", "scopes": ["post_office.publish"], "ttl_seconds": 86_400},
        rate=Rate(20, 100),
    )
    async def create_service_token(
        self,
        caller: Identity,
        realm: Realm,
        scopes: Scopes,
        ttl_seconds: ServiceTokenSeconds | None = None,
        rates: OwnRates | None = None,
    ) -> CreatedServiceToken:
        """Creates a token for a backend service or an agent and returns its text, this once.

        A service can hand on only scopes that its own token has, for no longer than that lives; the operator
        any. Without `ttl_seconds` the token lives until it is revoked, or as long as the caller's. `rates` hold
        it to less than its realm; the caller's own are the most, and what it gets if none are named.

        Errors: `invalid_argument` (an unknown scope, a reserved realm), `forbidden` (a scope, a time or a rate
        that the caller cannot give), `overloaded` (there are five thousand tokens).
        """
        if realm == OPERATOR:
            raise _wrong("realm", f"{OPERATOR} is the realm of the operator's token, of which there is one")
        _check_scopes(caller, scopes)
        wanted = [scope for scope in SCOPES if scope in scopes]
        own = granted_rates(caller, rates, self._limits.most("service"))
        text, token = await self._service_tokens.create(realm, wanted, _lifetime(caller, ttl_seconds), own)
        log_event(_log, "Service token created", token_id=token.token_id, realm=realm, by=caller.subject)
        return CreatedServiceToken.made(text, token)

    @operation(scope="traffic_cop.admin", read_only=True, example={"realm": "content"})
    async def list_service_tokens(self, caller: Identity, realm: Realm | None = None) -> ListedServiceTokens:
        """Lists living service tokens by id, realm, scopes and times; their texts are never shown again."""
        tokens = [
            ServiceTokenDetails.of(token)
            for token in await self._service_tokens.list()
            if realm is None or token.realm == realm
        ]
        return ListedServiceTokens(tokens=tokens)

    @operation(
        scope="traffic_cop.admin",
        destructive=True,
        idempotent=True,
        example={"token_id": "3f9a1c5e7b2d4860"},
    )
    async def revoke_service_token(self, caller: Identity, token_id: TokenId) -> Revoked:
        """Ends a service token; its sockets close within a second everywhere.

        Returns how many tokens ended: none when it had ended before, which is no error.
        """
        revoked = await self._service_tokens.revoke(token_id)
        await self._tell(caller, Revocation("token", token_id))
        return Revoked(revoked=int(revoked))

    @operation(scope="traffic_cop.observe", read_only=True, example={"subject": "alice", "limit": "messages"})
    async def check_rate_limit(self, caller: Identity, subject: Subject, limit: LimitName) -> RateLimitStanding:
        """Tells how somebody stands under a limit; nothing is spent by asking.

        `remaining` is what can be had at once, with what this instance holds for the subject; others
        may hold a tenth of a second's worth each. `retry_after` is in seconds, 0 when there is
        something now. A session or token without rates of its own is held to those of its user or realm.

        Errors: `not_found` (no such limit, session or token; what is no address).
        """
        return await self._standings.of(subject, limit)

    async def _opened_by(self, session_token: str) -> Session:
        token = read_token(session_token)
        if token is None or token.kind != "ses":
            raise Unauthenticated("this is not the token of a session")
        return await self._sessions.by_token(token)

    async def _to_refresh(self, caller: Identity, session_token: str | None) -> Session:
        """The session that a call to refresh means.

        Raises:
            Forbidden, Unauthenticated: as `refresh_session`.
        """
        if session_token is not None:
            session = await self._opened_by(session_token)
            if caller.is_user and session.session_id != caller.credential:
                raise Forbidden("a session may refresh only itself")
            return session
        if not caller.is_user:
            raise Forbidden("a service has no session of its own: name the session_token")
        own = await self._sessions.by_id(caller.credential)
        if own is None:
            raise Unauthenticated("this session has ended")
        return own

    async def _tell(self, caller: Identity, event: Revocation) -> None:
        """Tells every instance, also when nothing was left to end: an earlier call may have failed here."""
        await event.publish(self._valkey)
        log_event(_log, "Credentials revoked", revoked=event.revoked, id=event.id, by=caller.subject)


def _check_scopes(caller: Identity, scopes: Sequence[str]) -> None:
    """Lets a token be made with these scopes.

    Raises:
        InvalidArgument: what is no scope.
        Forbidden: a scope that the caller does not have and so cannot hand on.
    """
    for scope in scopes:
        if scope not in SCOPES:
            raise _wrong("scopes", f"{scope[:80]!r} is no scope; the scopes are {', '.join(SCOPES)}")
        if caller.kind != "operator" and scope not in caller.scopes:
            raise Forbidden(f"this token does not have the scope {scope} and cannot hand it on")


def _lifetime(caller: Identity, wanted: int | None) -> float | None:
    """How long a token made by this caller lives; None for as long as nobody revokes it.

    Raises:
        Forbidden: longer than the caller's own.
    """
    if not caller.expires_at:
        return wanted
    left = caller.expires_at - time.time()
    if (wanted or left) > left:
        raise Forbidden(f"this token ends in {left:.0f} seconds, and what it makes cannot live longer")
    return wanted or left


def _wrong(field: str, told: str) -> InvalidArgument:
    return InvalidArgument(f"{field}: {told}", errors=[FieldError(field, told)])
