"""The words that all services share: channels, rights, positions, identities. Values only, no behaviour that waits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AwareDatetime, BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from foundations.errors import Forbidden
from foundations.operations import Caller
from foundations.rates import Rate

CHANNEL_PATTERN = r"^[a-z_]+(:[A-Za-z0-9._~@|-]{1,128})?$"
USER_PATTERN = r"^[A-Za-z0-9._@|-][A-Za-z0-9._~@|-]{0,127}$"
REALM_PATTERN = r"^[A-Za-z0-9._@|-]{1,64}$"
POSITION_PATTERN = r"^[0-9]{1,16}(\.[A-Za-z0-9]{0,32})?$"
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _written_out(moment: object) -> datetime:
    """Reads a ``date-time`` of JSON Schema, and nothing else: pydantic takes numbers too, as seconds since 1970.

    It has to be read here: after a validator of ours, pydantic's strict mode takes no text for a time any more.
    """
    if isinstance(moment, str) and _MOMENT.fullmatch(moment):
        with suppress(ValueError):
            return datetime.fromisoformat(moment.upper())
    raise PydanticCustomError("moment", "must be a time as in 2026-11-20T07:00:00Z (RFC 3339)")


Moment = Annotated[AwareDatetime, BeforeValidator(_written_out)]
ChannelName = Annotated[str, StringConstraints(pattern=CHANNEL_PATTERN)]
UserId = Annotated[str, StringConstraints(pattern=USER_PATTERN)]
Realm = Annotated[str, StringConstraints(pattern=REALM_PATTERN)]
PositionText = Annotated[str, StringConstraints(pattern=POSITION_PATTERN)]
IdempotencyKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]
ConversationId = Annotated[str, StringConstraints(min_length=1, max_length=128)]
JsonObject = Annotated[dict[str, Any], Field(description="any JSON object")]

Right = Literal["subscribe", "send", "history", "publish"]
RIGHTS: frozenset[str] = frozenset({"subscribe", "send", "history", "publish"})
SENDING: frozenset[str] = frozenset({"send", "publish"})
"""The rights that put something onto a channel."""
SCOPES: tuple[str, ...] = (
    "post_office.publish", "post_office.consume", "post_office.history", "post_office.observe", "post_office.admin",
    "traffic_cop.sessions", "traffic_cop.observe", "traffic_cop.admin",
    "nurse.observe", "nurse.admin",
)  # fmt: skip
SERVICE_RIGHTS: Mapping[str, str] = {
    "subscribe": "post_office.history", "history": "post_office.history", "publish": "post_office.publish",
}  # fmt: skip
"""What a service's socket needs for a session's right. `send` has none: services call `send_to_agent`."""
OPERATOR = "operator"
"""The realm of the operator token."""

_POSITION = re.compile(POSITION_PATTERN)


class Position(NamedTuple):
    """A place in a channel's log: how far, and in which life of its store. As text ``OFFSET.EPOCH``."""

    offset: int
    epoch: str = ""

    def __str__(self) -> str:
        return f"{self.offset}.{self.epoch}" if self.epoch else str(self.offset)

    @classmethod
    def parse(cls, text: str) -> Position:
        """Reads ``OFFSET.EPOCH``, or a bare offset, taken in the current epoch.

        Raises:
            ValueError: anything else.
        """
        if not _POSITION.fullmatch(text):
            raise ValueError(f"{text!r} is not a position: OFFSET.EPOCH, as in 41.k3f9, or a bare offset")
        offset, _, epoch = text.partition(".")
        return cls(int(offset), epoch)


@dataclass(frozen=True, slots=True)
class Grant:
    """Rights on the channels that a pattern names; ``*`` stands only at its end.

    ``rate`` is how fast may be sent and published to all of them together, by this grant or by another.
    """

    pattern: str
    rights: frozenset[str]
    rate: Rate | None = None

    def covers(self, channel: str) -> bool:
        """Whether the pattern names this channel."""
        if self.pattern.endswith("*"):
            return channel.startswith(self.pattern[:-1])
        return channel == self.pattern


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity(Caller):
    """A caller of the city, as Traffic Cop has found it behind a token.

    ``expires_at`` is in seconds since 1970, 0 for never. ``context`` is the session's own, handed to agents with
    every message.
    """

    expires_at: float = 0.0
    grants: tuple[Grant, ...] = ()
    context: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_user(self) -> bool:
        return self.kind == "session"

    @property
    def realm(self) -> str:
        """The service's realm; empty for a user."""
        return "" if self.is_user else self.subject.removeprefix("~")

    def may(self, right: str, channel: str) -> bool:
        """Whether this caller has the right on the channel. Private logs are judged by `owns`."""
        if self.kind == "operator":
            return True
        if self.kind == "service":
            return SERVICE_RIGHTS.get(right) in self.scopes
        return any(right in grant.rights and grant.covers(channel) for grant in self.grants)

    def acting_as(self, realm: str | None) -> str:
        """The realm in whose name a call acts: the token's own, unless the operator names another.

        Raises:
            Forbidden: a realm that is not the token's.
        """
        if realm is None or realm == self.realm or self.kind == "operator":
            return realm or self.realm
        raise Forbidden(f"this token belongs to the realm {self.realm!r} and cannot act as {realm!r}")
