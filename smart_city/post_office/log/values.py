"""Values of the channel log: what is written, what came of it, what is read, and how long it is kept.

They know nothing of where a log is stored; the names of its keys are `log`'s and its scripts'.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from msgspec import Struct

from foundations.errors import NotFound
from smart_city.vocabulary import Position

Reason = Literal["", "trimmed", "unknown_epoch", "diverged", "future", "too_far"]
"""Why a position is no longer good; empty when it is, or when none was given."""


class Gone(NotFound):
    """The connection whose log this is has ended; nothing was appended."""


class Entry(Struct, frozen=True, gc=False):
    """One publication on its way into a log.

    ``data`` is the publication as a JSON object without its position, which readers add. ``key`` is an
    idempotency key that already names its caller (``alice/k1``); ``digest`` tells a repeat from a conflict.
    ``sender`` is in whose share it counts while it is held.
    """

    data: bytes
    message_id: str
    key: str = ""
    digest: str = ""
    sender: str = ""


class Appended(Struct, frozen=True, gc=False):
    """Where a publication stands in its log; for a duplicate, where the first one does, and that one's id."""

    message_id: str
    offset: int
    epoch: str
    duplicate: bool


class Stretch(Struct, frozen=True, gc=False):
    """Consecutive publications of one epoch, as they were appended together.

    ``entries`` is ``None`` where only the positions are known: who wants them reads the log.
    """

    channel: str
    epoch: str
    epoch_start: int
    first: int
    entries: tuple[bytes, ...] | None
    last: int


@dataclass(frozen=True, slots=True)
class Provisional:
    """Publications that are held: what will be logged, in this order, as far as anybody can know."""

    channel: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A publication that was held and will not be logged: it was refused, or ``earlier`` says the same."""

    channel: str
    entry: Entry
    earlier: str


class Page(NamedTuple):
    """One reading of a log. ``entries`` follow ``since`` without a hole.

    ``chain`` holds the epochs, oldest first, each with its first offset. ``since`` is the position read from:
    the one given when ``recovered``, else the newest. When no position was given ``recovered`` is ``None``, and
    ``streams`` are the open answers.
    """

    chain: tuple[tuple[str, int], ...]
    newest: Position
    first_kept: int
    since: int
    recovered: bool | None
    reason: Reason
    entries: tuple[bytes, ...]
    streams: tuple[bytes, ...]

    def epoch_of(self, offset: int) -> str:
        """The epoch that the chain gives an offset; one before the chain belongs to its oldest."""
        return epoch_of(self.chain, offset)


class Opened(NamedTuple):
    """Where a log is that somebody begins to hear, and whether answers in parts are open in it."""

    newest: Position
    has_streams: bool


def epoch_of(chain: tuple[tuple[str, int], ...], offset: int) -> str:
    """The epoch in which an offset lies; empty in a log that does not exist yet."""
    for epoch, first in reversed(chain):
        if first <= offset:
            return epoch
    return chain[0][0] if chain else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How many entries of a log are kept, of how many bytes, for how many seconds; ``idle`` ends the log.

    A log that was forgotten begins again at offset 1, so that comes well after the end of its last entry.
    """

    count: int
    bytes: int
    age: float
    idle: float
    terms: str = field(init=False, repr=False)
    """The four as the scripts read them, times in milliseconds."""

    def __post_init__(self) -> None:
        if self.idle < 2 * self.age:
            raise ValueError(f"a log must be remembered for at least twice the {self.age} s of its entries")
        terms = f"{self.count} {self.bytes} {round(self.age * 1000)} {round(self.idle * 1000)}"
        object.__setattr__(self, "terms", terms)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLimits:
    """What is kept in each namespace, and for how many seconds an idempotency key is."""

    history: Retention
    connection: Retention
    idempotency: float = 600

    @classmethod
    def within(cls, *, count: int, size: int, age: float, resume_window: float, idempotency: float = 600) -> LogLimits:
        """The limits that follow from the settings: a connection's own log lives for the resume window only.

        A log is remembered for two hours at least, longer than its writers' sequences.
        """
        return cls(
            history=Retention(count=count, bytes=size, age=age, idle=2 * age + 7200),
            connection=Retention(count=count, bytes=size, age=resume_window, idle=2 * resume_window + 7200),
            idempotency=idempotency,
        )

    def of(self, channel: str) -> Retention:
        """The limits of one channel's log."""
        return self.connection if channel.startswith("connection:") else self.history
