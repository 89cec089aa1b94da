"""The values of the agents' queue: a question on its way in, a delivery on its way out, and its end.

Values only; `inbox` keeps them in Valkey, and `dispatch` and `answers` carry them. What comes with every question
is a struct, which the garbage collector need not look at: 0.1 µs, where a frozen dataclass took 1.0 (questions, 20 in
flight).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from msgspec import Struct

from foundations.errors import StaleDelivery, Unavailable
from smart_city.vocabulary import CHANNEL_PATTERN

_DELIVERY = re.compile(rf"({CHANNEL_PATTERN[1:-1]})/([A-Za-z0-9_.-]{{1,64}})/([0-9]{{1,15}})", re.ASCII)

MOST_HOPS = 8
Circuit = Literal["closed", "open", "half_open"]
"""Whether an inbox takes questions: all, none for now, or a few to try how it goes."""
Ending = Literal["again", "dead", "free"]
"""How a reclaimed delivery ends: tried again, dead, or tried again as if nobody had tried."""


class Route(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Where the answer goes: to a channel as a message, else to the asking connection, else to its user.

    ``life`` counts how often the question died and was put back: each life has a final word of its own.
    ``traceparent`` is the question's context where that is needed: when it is sampled, or a service asks.
    """

    connection_id: str = ""
    user_id: str = ""
    channel: str = ""
    conversation_id: str = ""
    life: int = 0
    traceparent: str = ""


class Question(Struct, frozen=True, kw_only=True, gc=False):
    """What is put into an inbox. ``body`` is the encoded message that the agent gets.

    ``user`` is whose tenth it fills. ``serial`` counts its deliveries in the inboxes that it was forwarded
    from: it never starts again, so that no delivery id and no key in the asker's log is used twice.
    """

    channel: str
    message_id: str
    lane: str
    user: str
    body: bytes
    route: Route
    key: str = ""
    digest: str = ""
    hops: int = 0
    serial: int = 0


class Queued(Struct, frozen=True, gc=False):
    """A question is in the inbox; under an earlier id when its idempotency key was known."""

    message_id: str
    duplicate: bool = False


class UnheardTake(Unavailable):
    """A take that got no answer: whether it brought its holders anything, or will yet, is not known."""

    def __init__(self, message: str, *, taker: str, number: int, holders: frozenset[str]) -> None:
        super().__init__(message)
        self.taker = taker
        self.number = number
        self.holders = holders


class DeliveryId(NamedTuple):
    """One attempt at one message, as text ``CHANNEL/MESSAGE_ID/SERIAL``."""

    channel: str
    message_id: str
    serial: int

    def __str__(self) -> str:
        return f"{self.channel}/{self.message_id}/{self.serial}"

    @classmethod
    def parse(cls, text: str) -> DeliveryId:
        """Reads a delivery id.

        Raises:
            StaleDelivery: it never was one.
        """
        if (found := _DELIVERY.fullmatch(text)) is None:
            raise StaleDelivery(f"{text[:256]!r} is no delivery")
        return cls(found[1], found[3], int(found[4]))


class Holder(NamedTuple):
    """Who may have messages (``INSTANCE|CONSUMER``), for how long at first, and how many of them now."""

    name: str
    lease_seconds: float
    room: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message for one agent, once. ``attempt`` counts from 1 in this inbox."""

    delivery_id: str
    channel: str
    message_id: str
    attempt: int
    body: bytes
    route: Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known of a good delivery: where its answer goes, and any answer in parts that is open."""

    delivery: DeliveryId
    route: Route
    stream: str
    agent: str
    hops: int
    lane: str
    user: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Reclaimed:
    """A delivery taken from its holder, to be ended by whoever reclaimed it once the asker was told.

    ``why`` is a word (`lapsed`, `closed`, `expired`, …) or `failed:` and an agent's own reason. ``to`` names
    the inbox that it was on its way to; then lane, user and body are told as well.
    """

    delivery: DeliveryId
    attempt: int
    ending: Ending
    why: str
    route: Route
    stream: str
    agent: str
    hops: int
    to: str
    lane: str
    user: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxStatus:
    """How an inbox stands. ``depth`` counts what nobody has dealt with yet, taken or not."""

    depth: int
    capacity: int
    bytes: int
    dead_letters: int
    consumers: int
    oldest_age_seconds: float | None
    circuit: Circuit


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxLimits:
    """The bounds of every inbox. Durations in seconds."""

    count: int = 10_000
    bytes: int = 64 * 1024 * 1024
    user_share: float = 0.1
    lease_seconds: float = 30
    tries: int = 5
    age_seconds: float = 3600
    key_seconds: float = 600
    first_wait_seconds: float = 2
    longest_wait_seconds: float = 60
    answer_seconds: float = 5
    """A delivery is held at least so long once its answer is on its way to the log."""
    reclaim_seconds: float = 5
    """A reaper that has not ended what it reclaimed by then is reaped itself."""
    dead_count: int = 1000
    dead_bytes: int = 16 * 1024 * 1024
    other_taker_seconds: float = 1
    """For so long a further attempt waits for another taker than the last one, where there are several."""
    circuit_failures: int = 20
    """The circuit opens when in a window questions of so many people failed, and are such a share of all."""
    circuit_share: float = 0.5
    circuit_window_seconds: float = 30
    circuit_cool_seconds: float = 10
    circuit_probes: int = 5
    """So many come in, one of each asker, after each cool-down until one of them succeeds."""
    circuit_room: float = 0.8
    """A circuit that is open because the inbox was full closes when no more than this part of it is taken."""


def handed_on(from_: Standing | Reclaimed, channel: str) -> Question:
    """The question as it goes to another inbox, under its id, with asker and lane; twice, it arrives once."""
    message_id, hops = from_.delivery.message_id, from_.hops + 1
    return Question(
        channel=channel, message_id=message_id, lane=from_.lane, user=from_.user, body=from_.body,
        route=from_.route, key=f"/forward/{message_id}/{from_.delivery.serial}", hops=hops,
        serial=from_.delivery.serial,
    )  # fmt: skip
