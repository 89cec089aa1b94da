"""What the Traffic Cop's operations return, and how its values look from outside.

Times are RFC 3339, UTC, with milliseconds. No token stands in any result but the one that was just made.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field

from foundations.operations import Result
from smart_city.traffic_cop.grants import channels_of
from smart_city.traffic_cop.own_rates import ShownRate, shown_rates
from smart_city.traffic_cop.service_tokens import ServiceToken
from smart_city.traffic_cop.sessions import Issued, Session
from smart_city.vocabulary import SCOPES, Identity

_RATES = "rates of its own, by the names of limits, if it was given any"


class CreatedSession(Result):
    """A session and a token of it, shown this once. ``expires_at`` is the token's."""

    session_id: str
    session_token: str
    user_id: str
    status: str
    expires_at: str

    @classmethod
    def of(cls, issued: Issued) -> CreatedSession:
        token, session = issued
        return cls(
            session_id=session.session_id, session_token=token, user_id=session.user_id, status="active",
            expires_at=rfc3339(session.expires_at),
        )  # fmt: skip


class SessionDetails(Result):
    """A living session. ``channels`` are its grants; its own logs need none."""

    session_id: str
    user_id: str
    session_type: str
    status: str
    context: dict[str, Any]
    channels: dict[str, list[str]]
    rates: dict[str, ShownRate] | None = Field(default=None, description=_RATES)
    created_at: str
    expires_at: str

    @classmethod
    def of(cls, session: Session) -> SessionDetails:
        return cls(
            session_id=session.session_id, user_id=session.user_id, session_type=session.session_type,
            status="active", context=session.context, channels=channels_of(session.grants),
            rates=shown_rates(session.rates, session.grants), created_at=rfc3339(session.created_at),
            expires_at=rfc3339(session.expires_at),
        )  # fmt: skip


class ListedSessions(Result):
    """``total`` living sessions of a user or of all, and those of them that live longest."""

    user_id: str | None = None
    total: int
    sessions: list[SessionDetails]


class Revoked(Result):
    """How many ended by it; 0 when they had ended before."""

    revoked: int


class ServiceTokenDetails(Result):
    """A service token without its text. One without ``expires_at`` lives until it is revoked."""

    token_id: str
    realm: str
    scopes: list[str]
    rates: dict[str, ShownRate] | None = Field(default=None, description=_RATES)
    created_at: str
    expires_at: str | None = None

    @classmethod
    def of(cls, token: ServiceToken) -> ServiceTokenDetails:
        return cls(**_details(token))


class CreatedServiceToken(ServiceTokenDetails):
    """A service token with its text, shown this once."""

    token: str

    @classmethod
    def made(cls, text: str, token: ServiceToken) -> CreatedServiceToken:
        return cls(token=text, **_details(token))


class ListedServiceTokens(Result):
    """Living service tokens, by realm, the oldest first."""

    tokens: list[ServiceTokenDetails]


class CallerIdentity(Result):
    """Who calls: a user by session, a service, or the operator.

    ``id`` is the user's id or the service's realm, ``credential`` the id of the session or of the service token.
    A service has ``scopes``, a session ``channels``. Without ``expires_at`` it ends when it is revoked.
    """

    kind: Literal["session", "service", "operator"]
    id: str
    credential: str
    scopes: list[str]
    channels: dict[str, list[str]]
    rates: dict[str, ShownRate] | None = Field(default=None, description=_RATES)
    expires_at: str | None = None

    @classmethod
    def of(cls, caller: Identity) -> CallerIdentity:
        return cls(
            kind=caller.kind, id=caller.realm or caller.subject, credential=caller.credential,
            scopes=[scope for scope in SCOPES if scope in caller.scopes], channels=channels_of(caller.grants),
            rates=shown_rates(caller.rates, caller.grants),
            expires_at=rfc3339(caller.expires_at) if caller.expires_at else None,
        )  # fmt: skip


class RateLimitStanding(Result):
    """Whether the subject may go on, how much at once, and else in how many seconds."""

    allowed: bool
    remaining: int
    retry_after: float


def rfc3339(seconds: float) -> str:
    """Seconds since 1970 as ``2026-11-20T07:00:00.000Z``."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _details(token: ServiceToken) -> dict[str, Any]:
    return {
        "token_id": token.token_id,
        "realm": token.realm,
        "scopes": list(token.scopes),
        "rates": shown_rates(token.rates),
        "created_at": rfc3339(token.created_at),
        "expires_at": rfc3339(token.expires_at) if token.expires_at else None,
    }
