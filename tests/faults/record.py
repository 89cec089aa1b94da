"""What was sent, acknowledged and received while a part failed, and how things stood afterwards: plain values.

Whoever takes part writes down what it saw, and nothing of what it makes of it; that is `invariants`.
Times are seconds of one monotonic clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from city_client import Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A message on its way for the first time, over one link; it is repeated under its ``key``."""

    key: str
    channel: str
    by: str
    link: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What its sender was told: ``published``, ``queued``, ``held``, or an error's code; ``attempt`` counts from 1."""

    key: str
    status: str
    at: float
    message_id: str = ""
    position: Position | None = None
    is_duplicate: bool = False
    attempt: int = 1

    @property
    def is_safe(self) -> bool:
        """Whether it may not be lost any more; `held` says only that it is kept for now."""
        return self.status in {"published", "queued"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """A subscribe was answered."""

    channel: str
    link: str
    at: float
    position: Position
    asked: Position | None = None
    recovered: bool | None = None
    missed: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """A publication came, at its place in the log."""

    channel: str
    link: str
    at: float
    position: Position
    message_id: str
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """A publication came without a place, as long as the store is away."""

    channel: str
    link: str
    at: float
    message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Broke:
    """Continuity broke: a `reset`."""

    channel: str
    link: str
    at: float
    position: Position
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A reader's link ended."""

    link: str
    at: float
    code: int


Heard = Joined | Got | Foretold | Broke | Lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A frame of an answer that an asker got; parts without a place in the log are left out."""

    asker: str
    question: str
    message_id: str
    stream: str
    log: str
    at: float
    is_retrying: bool = False

    @property
    def is_final(self) -> bool:
        """Whether nothing more comes of its question."""
        return self.stream in {"", "end"} or (self.stream == "error" and not self.is_retrying)


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """An entry of a channel's log, as its history shows it in the end."""

    position: Position
    message_id: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftermath:
    """How the platform stood when everybody had what they were owed, or the deadline was over."""

    connected: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Ids of the connections that live, by user."""
    registered: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Ids that stand in ``connections:USER``."""
    instances: frozenset[str] = frozenset()
    listening: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """What stands in ``subscriptions:INSTANCE``, of living and dead ones."""
    listened: frozenset[str] = frozenset()
    """Channels that somebody listens to."""
    health: Mapping[str, str] = field(default_factory=dict)
    """What each instance says of itself."""
    inboxes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By channel, how much is left of everything that has to become nothing."""
    waiting: tuple[str, ...] = ()
    """Who waited for what when the deadline came."""
    defects: tuple[str, ...] = ()
    """What instances logged with a traceback."""


@dataclass(slots=True)
class Record:
    """Everything of one trial."""

    sent: list[Sent] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    heard: dict[str, list[Heard]] = field(default_factory=dict)
    """By reader, in the order in which it came."""
    answered: list[Answered] = field(default_factory=list)
    logs: dict[str, list[Logged]] = field(default_factory=dict)
    deliveries: int = 0
    forgetful: set[str] = field(default_factory=set)
    """Links that ended with an instance of a release which loses the answers that were under way on them."""
    aftermath: Aftermath = field(default_factory=Aftermath)

    @property
    def safe(self) -> list[Told]:
        """The last word on each message that was acknowledged for good."""
        return list({told.key: told for told in self.told if told.is_safe}.values())

    @property
    def forgotten(self) -> frozenset[str]:
        """The questions, by id, that were asked on such links."""
        links = {sent.key: sent.link for sent in self.sent}
        return frozenset(told.message_id for told in self.safe if links.get(told.key) in self.forgetful)
