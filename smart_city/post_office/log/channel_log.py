"""The channel log: every channel is a durable sequence of publications, read from a position.

It is stored in Valkey under keys that share the channel as hash tag, and touched by scripts only, so that
what is said of a position is true at one moment. How appends travel is `log_writer`'s matter, who listens the
hub's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import msgspec
from msgspec import Struct

from foundations.supervision import Tasks
from foundations.valkey import Valkey
from foundations.valkey.slots import never
from smart_city.post_office.keep import Held, Keep
from smart_city.post_office.log.calls import Outcome, Then, log_script, new_epoch
from smart_city.post_office.log.echo import HeardHere
from smart_city.post_office.log.patience import Patience
from smart_city.post_office.log.values import (
    Appended,
    Entry,
    LogLimits,
    Opened,
    Page,
    Stretch,
    epoch_of,
)
from smart_city.post_office.log.waiting import OnHeld
from smart_city.post_office.log.writer import LogWriter
from smart_city.post_office.rounds import resolve
from smart_city.vocabulary import Position

PAGE_BYTES = 1024 * 1024


class _Known(Struct, frozen=True):
    """What is remembered of an idempotency key, as far as it is read here."""

    message_id: str


_known = msgspec.json.Decoder(_Known).decode


class ChannelLog:
    """The logs of all channels, as one instance writes and reads them.

    ``on_appended`` hears what this instance has appended, and ``on_held`` what is held, before its senders do. The bus
    does not bring that back where it is ``heard_here`` and nowhere else.
    """

    def __init__(
        self,
        valkey: Valkey,
        tasks: Tasks,
        limits: LogLimits,
        on_appended: Callable[[Stretch], None],
        *,
        patience: Patience = Patience(),  # noqa: B008  # a frozen value
        keep: Keep | None = None,
        on_held: OnHeld = lambda _: None,
        heard_here: HeardHere = lambda _: None,
    ) -> None:
        self._valkey = valkey
        self._limits = limits
        self._patience = patience
        self._writer = LogWriter(
            valkey, tasks, limits, on_appended, patience=patience, keep=keep or Keep(), on_held=on_held,
            heard_here=heard_here,
        )  # fmt: skip
        self._read = log_script("read")
        self._open = log_script("open")
        self._newest = log_script("newest")

    def append(self, channel: str, entry: Entry, then: Then, *, owner: str = "") -> None:
        """Logs and publishes an entry, in order with the channel's others; ``then`` is told once the outcome.

        An ``owner`` is the connection whose log this is and which must not have ended. ``then`` is told an
        `Appended`, or an error: `Conflict` (the key was used with another digest), `Gone` (the owner has
        ended), `Unavailable` (no room to hold it, or it was held for too long: it may be logged or not),
        `Overloaded` (Valkey is full), `Internal`. While Valkey is away it is told `Held` before that.
        """
        self._writer.append(channel, entry, then, owner=owner)

    async def append_now(self, channel: str, entry: Entry, *, owner: str = "") -> Appended:
        """Logs and publishes one entry, and waits until that is done, also while it is held.

        Raises:
            CityError: as `append` tells them.
        """
        told: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()

        def then(outcome: Outcome | Held) -> None:
            if not isinstance(outcome, Held):
                resolve(told, outcome)

        self._writer.append(channel, entry, then, owner=owner)
        return await told

    async def append_or_hold(self, channel: str, entry: Entry, *, owner: str = "") -> Appended | Held:
        """Logs and publishes one entry; while Valkey is away, it is told that it is held.

        Raises:
            CityError: as `append` tells them.
        """
        told: asyncio.Future[Appended | Held] = asyncio.get_running_loop().create_future()
        self._writer.append(channel, entry, partial(resolve, told), owner=owner)
        return await told

    async def read(
        self,
        channel: str,
        since: Position | None,
        *,
        limit: int = 512,
        max_bytes: int = PAGE_BYTES,
        create: bool = False,
    ) -> Page:
        """Judges a position and reads what came after it.

        Up to ``limit`` entries of ``max_bytes`` together are read, but always one. Without a position it only
        says where the log is. ``create`` begins a log that is not there, so that the position got has an epoch;
        without it such a log is at ``(0, "")``, and so is always a connection's, which may never be written.

        Raises:
            Unavailable: Valkey does not answer.
        """
        offset, epoch = ("", "") if since is None else since
        page = await self._page(channel, _how(channel) if create else "", offset, epoch, limit, max_bytes)
        if since is None:
            return page
        is_good = not page.reason
        return page._replace(recovered=is_good, since=since.offset if is_good else page.since)

    async def read_back(
        self, channel: str, before: int | None, *, limit: int = 512, max_bytes: int = PAGE_BYTES
    ) -> Page:
        """Reads what came right before an offset, or the newest: fewer where the log begins, oldest first.

        Up to ``limit`` entries of ``max_bytes`` together are read, but always one. What does not fit is missing
        at the old end, so that going on before the first one leaves nothing out.

        Raises:
            Unavailable: Valkey does not answer.
        """
        page = await self._page(channel, "back", before or "", "", limit, max_bytes)
        end = page.newest.offset if before is None else min(before - 1, page.newest.offset)
        return page._replace(since=end - len(page.entries), entries=page.entries[::-1])

    async def _page(
        self, channel: str, how: Literal["", "create", "back"], offset: int | str, epoch: str, limit: int, size: int
    ) -> Page:
        """What the script answers, as if no position had been given."""
        keys = [self._key(channel, part) for part in ("meta", "entries", "streams", "open")]
        keys.append(never(self._valkey.key(f"log:{{{channel}}}")))
        idle = round(self._limits.of(channel).idle * 1000)
        rest = [how, idle, offset, epoch, limit, size]
        answer = await self._patience.until_answered(lambda: self._valkey.run(self._read, keys, [new_epoch(), *rest]))
        chain_text, last, first_kept, reason, entries, streams = answer
        chain = _chain(chain_text.decode())
        return Page(
            chain=chain, newest=Position(last, epoch_of(chain, last)), first_kept=first_kept, since=last,
            recovered=None, reason=reason.decode(), entries=tuple(entries), streams=tuple(streams),
        )  # fmt: skip

    def slot_of(self, channel: str) -> int:
        """Logs of one slot may be asked for together."""
        return self._valkey.slot_of(self._key(channel, "meta"))

    async def opened(self, channels: Sequence[str]) -> dict[str, Opened]:
        """Where these logs of one slot are; such as are not there are begun, as by `read`.

        Raises:
            Unavailable: Valkey does not answer.
        """
        keys = [self._key(channel, part) for channel in channels for part in ("meta", "entries", "streams", "open")]
        rest = [word for c in channels for word in (round(self._limits.of(c).idle * 1000), _how(c))]
        answer = await self._patience.until_answered(lambda: self._valkey.run(self._open, keys, [new_epoch(), *rest]))
        return {
            channel: Opened(Position(last, epoch_of(_chain(chain.decode()), last)), has_streams=streams > 0)
            for channel, (chain, last, streams) in zip(channels, answer, strict=True)
        }

    async def newest(self, channels: Sequence[str]) -> dict[str, Position]:
        """The newest position of each log, ``(0, "")`` where there is none; asking keeps logs from expiring.

        Raises:
            Unavailable: Valkey does not answer.
        """
        groups = self._valkey.by_slot(channels, lambda channel: self._key(channel, "meta"))
        found = await asyncio.gather(*(self._newest_of(group) for group in groups))
        return {channel: position for positions in found for channel, position in positions}

    async def _newest_of(self, channels: Sequence[str]) -> list[tuple[str, Position]]:
        """The newest positions of logs of one slot."""
        keys = [self._key(channel, "meta") for channel in channels]
        idle = [round(self._limits.of(channel).idle * 1000) for channel in channels]
        answer = await self._patience.until_answered(lambda: self._valkey.run(self._newest, keys, idle))
        return [
            (channel, Position(offset, epoch.decode()))
            for channel, offset, epoch in zip(channels, answer[::2], answer[1::2], strict=True)
        ]

    async def message_under(self, channel: str, key: str) -> str | None:
        """The id of what was logged under this idempotency key lately.

        Raises:
            Unavailable: Valkey does not answer.
        """
        keys = self._key(channel, "keys")
        known = await self._patience.until_answered(lambda: self._valkey.command("HGET", keys, key))
        return _known(known).message_id if known else None

    async def flush(self, timeout: float) -> int:  # noqa: ASYNC109  # nothing is raised
        """Waits until every sender is told, at most ``timeout`` seconds; returns how many are not."""
        return await self._writer.flush(timeout)

    def _key(self, channel: str, part: str) -> str:
        return self._valkey.key(f"log:{{{channel}}}:{part}")


def _how(channel: str) -> Literal["", "create"]:
    """How a log is opened: a connection's, which may never be written, is not begun."""
    return "" if channel.startswith("connection:") else "create"


def _chain(text: str) -> tuple[tuple[str, int], ...]:
    """Reads ``e2:99 e1:1``, newest first, into pairs, oldest first."""
    links = [link.partition(":") for link in reversed(text.split())]
    return tuple((epoch, int(first)) for epoch, _, first in links)
