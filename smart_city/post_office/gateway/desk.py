"""What every connection of an instance works with, and what it needs of the city's other services, in its own words.

Also what the gateway needs of whoever it has let in, be it on a WebSocket or with a stream of events.
"""

from __future__ import annotations

from collections.abc import Container, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from foundations import invocation
from foundations.invocation import Credit
from foundations.supervision import Tasks
from foundations.telemetry import Counters, Traces
from smart_city.post_office.answers import Answers
from smart_city.post_office.channels import Channels
from smart_city.post_office.fleet.directory import Registered
from smart_city.post_office.fleet.registry import Registry
from smart_city.post_office.gateway.joining import Joining
from smart_city.post_office.inbox import Inbox
from smart_city.post_office.inbox.dispatch import Dispatcher
from smart_city.post_office.log import ChannelLog
from smart_city.vocabulary import Identity

Waiting = Coroutine[Any, Any, None] | None
"""What a frame has to wait for, if it could not be carried out at once."""


class Limits(invocation.Limits, Protocol):
    """Where credit is kept, also for what comes before anybody is known, and for what goes to a channel."""

    def sending(self, caller: Identity, channel: str) -> Credit | None:
        """What ``caller`` may still put onto a channel by its grants; None if they do not bound it."""
        ...

    def handshakes(self, address: str) -> Credit:
        """How many handshakes an address has left."""
        ...


class Sessions(Protocol):
    """Who finds the identity behind a token, and knows whether it still stands."""

    async def identify(self, token: str, *, address: str = "") -> Identity: ...

    async def admit(self, token: str, *, address: str = "") -> Identity: ...

    async def still_valid(self, identities: Sequence[Identity]) -> list[bool]: ...

    def revoked_since(self, identity: Identity, moment: float) -> bool: ...


class Admitted(Protocol):
    """Whoever was let in by a token, and leaves when that stands no more."""

    identity: Identity

    @property
    def user_id(self) -> str:
        """The user's id, or ``~REALM`` of a service."""
        ...

    def send(self, frame: bytes) -> None:
        """Queues a frame."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Sends what is queued, and ends."""
        ...


class Guest(Registered, Admitted, Protocol):
    """Whoever was let in and stays where others see it: a connection on a socket, or a stream of events."""

    may_return: bool
    """Whether the client may resume the connection once the socket is gone."""

    @property
    def subscriptions(self) -> Container[str]:
        """The channels listened to, private logs included."""
        ...

    @property
    def sent_to(self) -> Container[str]:
        """The channels that messages were sent to."""
        ...

    @property
    def consumes(self) -> Sequence[str]:
        """The channels whose inboxes are taken from."""
        ...

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait to be sent."""
        ...

    @property
    def is_working(self) -> bool:
        """Whether others wait for what it is about to say."""
        ...

    @property
    def is_lagging(self) -> bool:
        """Whether it does not keep up, and is fed from the log."""
        ...

    @property
    def address(self) -> str:
        """Where the other end is; empty when it is not known."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What every connection of this instance works with."""

    log: ChannelLog
    inbox: Inbox
    joining: Joining
    registry: Registry
    channels: Channels
    sessions: Sessions
    limits: Limits
    counters: Counters
    traces: Traces
    tasks: Tasks
    answers: Answers
    dispatcher: Dispatcher
    max_subscriptions: int
    max_unanswered: int
    max_message_bytes: int
    frame_seconds: float
