"""Dead letters: questions that no agent would or could answer, kept for operators to look at, put back or drop.

How a question dies is decided in `returns`, and noted by the script that ends it. What the asker was told stays told: a
letter that is put back begins another life, whose answer comes beside the error of the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
from msgspec import Struct

from foundations.errors import InvalidArgument, NotFound, Overloaded
from smart_city.post_office.inbox.calls import InboxScripts, groups_of, milliseconds
from smart_city.post_office.inbox.questions import InboxLimits, Queued, Route

PAGE_BYTES = 1024 * 1024


class _Head(Struct, frozen=True):
    """A letter without its body, as `conclude.lua` writes it. Times in ms."""

    message_id: str
    route: Route
    user: str
    hops: int
    attempts: int
    asked_at: int
    died_at: int
    why: str


_head = msgspec.json.Decoder(_Head)


class Cursor(NamedTuple):
    """Where a page ended: at a letter that died then."""

    died_at: int
    message_id: str

    def __str__(self) -> str:
        return f"{self.died_at}.{self.message_id}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Reads a cursor.

        Raises:
            InvalidArgument: it never was one.
        """
        died_at, _, message_id = text.partition(".")
        if not died_at.isascii() or not died_at.isdigit() or not message_id:
            raise InvalidArgument(f"{text[:64]!r} is no place in the list: pass on what next said")
        return cls(int(died_at), message_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One dead question. ``why`` is a word (`lapsed`, `expired`, …) or `failed:` and the agent's own reason.

    ``attempts`` counts those in this inbox, ``body`` is empty if it is longer than was asked for. ``size`` is in
    bytes, times are in seconds since 1970.
    """

    message_id: str
    user: str
    route: Route
    why: str
    attempts: int
    hops: int
    asked_at: float
    died_at: float
    size: int
    body: bytes

    @property
    def cursor(self) -> Cursor:
        """Its place in the list."""
        return Cursor(round(self.died_at * 1000), self.message_id)


class DeadLetters:
    """The dead letters of all inboxes. Channels are checked by whoever calls."""

    def __init__(self, scripts: InboxScripts, limits: InboxLimits) -> None:
        self._scripts = scripts
        self._limits = limits

    async def page(
        self, channel: str, *, limit: int, body_bytes: int, after: Cursor | None = None
    ) -> Sequence[DeadLetter]:
        """The last that died, or those that died before ``after``; fewer if they are a mebibyte together."""
        died_at, message_id = after or ("+inf", "")
        flat = await self._scripts.run(
            "dead_letters", channel, limit, body_bytes, PAGE_BYTES, died_at, message_id
        )  # fmt: skip
        return [_letter(_head.decode(head), size, body) for head, size, body in groups_of(3, flat)]

    async def requeue(self, channel: str, message_id: str) -> Queued:
        """Puts a letter back under its id, once; for a while it is known that it was.

        Raises:
            NotFound: there is no such letter.
            Overloaded: the inbox is full.
        """
        limits = self._limits
        word = await self._scripts.run(
            "requeue", channel, message_id, limits.count, limits.bytes, milliseconds(limits.key_seconds)
        )
        if word == b"f":
            raise Overloaded(f"the inbox {channel} is full", retry_after=limits.circuit_cool_seconds)
        if not word:
            raise _missing(channel, message_id)
        return Queued(message_id, duplicate=word == b"d")

    async def drop(self, channel: str, message_id: str) -> None:
        """Drops a letter for good.

        Raises:
            NotFound: there is no such letter.
        """
        if not await self._scripts.run("drop", channel, message_id):
            raise _missing(channel, message_id)


def _missing(channel: str, message_id: str) -> NotFound:
    return NotFound(f"there is no dead letter {message_id!r} in {channel} (any more)")


def _letter(head: _Head, size: int, body: bytes) -> DeadLetter:
    return DeadLetter(
        message_id=head.message_id, user=head.user, route=head.route, why=head.why, attempts=head.attempts,
        hops=head.hops, asked_at=head.asked_at / 1000, died_at=head.died_at / 1000, size=size, body=body,
    )  # fmt: skip
