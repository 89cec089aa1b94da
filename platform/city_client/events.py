"""What happens to a client, as values with a sentence each: for logs, terminals and tests.

They report; nothing depends on anyone reading them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

from city_client.cursors import Gap
from city_client.frames import Position


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; ``str()`` says it in a sentence."""

    level: ClassVar[int] = logging.INFO


@dataclass(frozen=True, slots=True)
class Connected(Event):
    """The socket stands and was welcomed."""

    connection_id: str
    user_id: str
    instance_id: str
    resumed: bool

    def __str__(self) -> str:
        again = "resumed" if self.resumed else "connected"
        return f"{again} as {self.user_id} on {self.instance_id} ({self.connection_id})"


@dataclass(frozen=True, slots=True)
class Disconnected(Event):
    """The socket is gone."""

    level: ClassVar[int] = logging.WARNING
    code: int
    reason: str

    def __str__(self) -> str:
        return f"disconnected ({self.code}{', ' + self.reason if self.reason else ''})"


@dataclass(frozen=True, slots=True)
class NotReached(Event):
    """A socket could not be opened."""

    level: ClassVar[int] = logging.WARNING
    reason: str

    def __str__(self) -> str:
        return f"not reached ({self.reason})"


@dataclass(frozen=True, slots=True)
class Reconnecting(Event):
    """A further attempt will be made after ``delay`` seconds."""

    attempt: int
    delay: float

    def __str__(self) -> str:
        return f"reconnecting in {self.delay * 1000:.0f} ms, attempt {self.attempt}"


@dataclass(frozen=True, slots=True)
class Held(Event):
    """A message is kept by the platform, whose store is away; whoever sent it still waits for the last word."""

    channel: str
    message_id: str

    def __str__(self) -> str:
        return f"held{' on ' + self.channel if self.channel else ''} until the platform's store is back"


@dataclass(frozen=True, slots=True)
class Subscribed(Event):
    """A channel is being listened to; ``recovered`` is ``None`` where no position was given."""

    channel: str
    position: Position
    recovered: bool | None
    missed: int
    reason: str

    def __str__(self) -> str:
        if self.recovered is None:
            return f"listening to {self.channel} from {self.position}"
        if self.recovered:
            return f"recovered {self.channel} at {self.position}, {self.missed} missed"
        return f"could not recover {self.channel} ({self.reason}); goes on from {self.position}"


@dataclass(frozen=True, slots=True)
class Broken(Event):
    """Publications of a channel are lost to this reader."""

    level: ClassVar[int] = logging.WARNING
    channel: str
    gap: Gap

    def __str__(self) -> str:
        return f"{self.channel} has a gap ({self.gap.reason}): after {self.gap.after}, until {self.gap.until}"


@dataclass(frozen=True, slots=True)
class FellBehind(Event):
    """A reader is too slow: the channel is left, and read on from the log when there is room."""

    channel: str

    def __str__(self) -> str:
        return f"the reader of {self.channel} is behind; it goes on from the log"


@dataclass(frozen=True, slots=True)
class Unsubscribed(Event):
    """The platform ended a subscription, or refused to restore it."""

    level: ClassVar[int] = logging.WARNING
    channel: str
    code: str
    message: str

    def __str__(self) -> str:
        return f"no longer listening to {self.channel} ({self.code}: {self.message})"


@dataclass(frozen=True, slots=True)
class Expiring(Event):
    """The session ends soon; `CityClient.refresh` takes a new token."""

    level: ClassVar[int] = logging.WARNING
    expires_at: object

    def __str__(self) -> str:
        return f"the session expires at {self.expires_at}"


@dataclass(frozen=True, slots=True)
class Complained(Event):
    """An error arrived that answers no frame of ours."""

    level: ClassVar[int] = logging.WARNING
    code: str
    message: str

    def __str__(self) -> str:
        return f"the platform complains: {self.code}: {self.message}"
