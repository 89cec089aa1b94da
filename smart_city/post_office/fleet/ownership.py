"""Who owns each connection's log: one record a connection, which moves to a new owner under a fence that only grows.

The record lives through the sockets of its connection and for the resume window after the last; while it does, answers
are appended to the connection's log. It is the one truth: what else is kept of a connection may be late or missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from foundations.valkey.client import Argument, Valkey
from foundations.valkey.scripts import Script
from smart_city.post_office.channels import connection_log
from smart_city.post_office.fleet.calls import run_each
from smart_city.post_office.fleet.names import WINDOWS, owner_key
from smart_city.post_office.log.bus import bus_channel

REMEMBERED_SECONDS = 60.0
"""Records outlive their windows by this and a window more: time for whoever looks after them to come."""


class Claim(NamedTuple):
    """One socket's right to a connection; up to the offset ``heard`` its log has certainly reached the client."""

    connection_id: str
    user_id: str
    fence: int
    heard: int


class Taken(NamedTuple):
    """What a new owner takes over: its fence, what the client has heard, and whom it is taken from, if from anybody."""

    fence: int
    heard: int
    holder: str


class Owed(NamedTuple):
    """A connection that has ended, and after which offset of its log its user is owed what came."""

    connection_id: str
    user_id: str
    heard: int


class Ownership:
    """The records as one instance writes them. ``member`` is its name in this life.

    A record and the window's entry in the zset lie in two slots. The entry is written with the first claim and taken
    out last, and whoever finds it asks the record; so a crash between the two leaves an entry too many, never one too
    few.
    """

    def __init__(self, valkey: Valkey, *, member: str, window_seconds: float, unclaimed_seconds: float) -> None:
        self.member = member
        self._valkey = valkey
        self._windows = valkey.key(WINDOWS)
        self._window = round(window_seconds * 1000)
        self._living = round((window_seconds + unclaimed_seconds) * 1000)
        self._remembered = self._window + round(REMEMBERED_SECONDS * 1000)
        self._forgotten = 2 * (self._living + self._remembered)
        self._own, self._take_over, self._leave, self._lapse, self._watch, self._due = (
            Script.read("smart_city.post_office.fleet", name)
            for name in ("own", "take_over", "leave", "lapse", "watch", "due")
        )

    # Owners

    async def own(self, claims: Sequence[Claim]) -> list[bool]:
        """Says that these are owned here; false for each that has a newer owner, was left, or has ended."""
        args: list[Argument] = [self._living, self._remembered, self.member]
        replies = await run_each(
            self._valkey, self._own, claims, keys=self._record, head=args,
            args=lambda c: (c.fence, c.heard, c.user_id),
        )  # fmt: skip
        return [bool(reply) for reply in replies]

    async def watch(self, connection_ids: Sequence[str]) -> None:
        """Has the windows of new connections looked after."""
        await self._valkey.run(self._watch, [self._windows], [self._living, self._forgotten, *connection_ids])

    async def take_over(self, wanted: Sequence[tuple[str, str]]) -> list[Taken | None]:
        """Takes connections of these users over, by id and user; nothing for each that cannot be had."""
        args: list[Argument] = [self._living, self._remembered, self.member]
        replies = await run_each(
            self._valkey, self._take_over, wanted, keys=self._record, head=args, args=lambda pair: (pair[1],)
        )
        return [Taken(reply[0], reply[1], reply[2].decode()) if reply else None for reply in replies]

    async def leave(self, claims: Sequence[Claim], *, may_return: bool) -> None:
        """Ends claims whose sockets are gone; those that may return have a window from now on."""
        how = "back" if may_return else "never"
        args: list[Argument] = [self._window, self._remembered, self.member]
        moments = await run_each(
            self._valkey, self._leave, claims, keys=self._record_and_log, head=args,
            args=lambda c: (c.fence, c.heard, c.user_id, how),
        )  # fmt: skip
        left = {claim.connection_id: moment for claim, moment in zip(claims, moments, strict=True)}
        await self.look_later({name: moment for name, moment in left.items() if moment > 0})
        await self.forget([name for name, moment in left.items() if moment == 0])

    # Windows

    async def due(self, most: int, seconds: float) -> list[str]:
        """Connections to look after, for so many seconds nobody else's."""
        args = [most, round(seconds * 1000), self._forgotten]
        found = await self._valkey.run(self._due, [self._windows], args)
        return [name.decode() for name in found]

    async def lapse(self, connection_ids: Sequence[str]) -> list[Owed]:
        """Ends those whose windows have passed; the others are looked after later. Says whose users are owed something.

        Whoever has given it to them says so with `forget`; until then they are found again.
        """
        asked = [(name,) for name in connection_ids]
        head = [self._living + self._remembered]
        replies = await run_each(self._valkey, self._lapse, asked, keys=self._record_and_log, head=head)
        found = dict(zip(connection_ids, replies, strict=True))
        await self.look_later({name: reply[0] for name, reply in found.items() if reply and reply[0]})
        await self.forget([name for name, reply in found.items() if not reply])
        return [Owed(name, reply[1].decode(), reply[2]) for name, reply in found.items() if reply and not reply[0]]

    async def look_later(self, moments: dict[str, int]) -> None:
        """Has connections looked after at these moments of Valkey's clock, in ms."""
        if moments:
            await self._valkey.command("ZADD", self._windows, *(x for name, at in moments.items() for x in (at, name)))

    async def forget(self, connection_ids: Iterable[str]) -> None:
        """Nobody has to look after these any more."""
        names = list(connection_ids)
        if names:
            await self._valkey.command("ZREM", self._windows, *names)

    async def user_of(self, connection_id: str) -> str:
        """Whose connection it is, or was within its window; empty when there is none."""
        found = await self._valkey.command("HGET", self._valkey.key(owner_key(connection_id)), "user_id")
        return found.decode() if found else ""

    def _record(self, item: tuple[Any, ...]) -> tuple[str]:
        return (self._valkey.key(owner_key(item[0])),)

    def _record_and_log(self, item: tuple[Any, ...]) -> tuple[str, str]:
        meta = f"{bus_channel(connection_log(item[0]))}:meta"
        return (self._valkey.key(owner_key(item[0])), self._valkey.key(meta))
