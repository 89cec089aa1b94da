"""Succession: what becomes of the things that a dead instance held.

Its deliveries go to other agents, its connections' claims on their logs end, and what those logs got for clients
that could no longer hear it moves to the users' own logs, so that no answer is lost on the way.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec
from msgspec import Raw, Struct

from foundations.errors import CityError
from foundations.supervision import Tasks
from smart_city.post_office.channels import connection_log, user_log
from smart_city.post_office.fleet.registry import Leftovers
from smart_city.post_office.log import ChannelLog, Entry
from smart_city.vocabulary import Position

_log = logging.getLogger(__name__)


class Deliveries(Protocol):
    """Who takes deliveries back: the dispatcher."""

    def lapsed(self, instance_id: str) -> None:
        """What the consumers of an instance have is taken from them."""
        ...


class _Answer(Struct):
    type: str
    message_id: str
    timestamp: str


_head = msgspec.json.Decoder(_Answer)
_fields = msgspec.json.Decoder(dict[str, Raw])


class Succession:
    """Takes over from instances that are gone. Until an estate is settled, others repeat what this one began."""

    def __init__(
        self,
        leftovers: Leftovers,
        log: ChannelLog,
        deliveries: Deliveries,
        tasks: Tasks,
        *,
        settled: Callable[[str], Awaitable[None]],
        unheard_seconds: float,
    ) -> None:
        self._leftovers = leftovers
        self._log = log
        self._deliveries = deliveries
        self._tasks = tasks
        self._settled = settled
        self._unheard = timedelta(seconds=unheard_seconds)

    def lapsed(self, member: str) -> None:
        """The lease of an instance has run out, and this instance was the one to notice."""
        self._deliveries.lapsed(member)
        self._tasks.spawn(f"take over from {member}", self._take_over(member))

    async def _take_over(self, member: str) -> None:
        """Settles connection by connection; what fails is claimed again later, here or elsewhere."""
        try:
            for connection_id, user_id in (await self._leftovers.of(member)).items():
                await self._leftovers.end_claim(connection_id)
                await self._moved(connection_id, user_id)
                await self._leftovers.settle(member, connection_id)
            await self._settled(member)
        except CityError as error:
            _log.warning("what %s left behind is not all taken over yet: %s", member, error)

    async def _moved(self, connection_id: str, user_id: str) -> None:
        """What cannot be read stays where it is, and keeps nothing behind it from being moved."""
        try:
            await self._move(connection_id, user_id)
        except CityError:
            raise
        except Exception:  # an estate is supervised here: one unreadable entry must not end it
            _log.exception("the log of %s cannot be moved to %s", connection_id, user_id)

    async def _move(self, connection_id: str, user_id: str) -> None:
        """Copies the answers that a client may not have heard to its user's log, under the same message ids."""
        source, target = connection_log(connection_id), user_log(user_id)
        since = (datetime.now(UTC) - self._unheard).isoformat()
        position = Position(0)
        page = await self._log.read(source, position)
        if page.reason == "trimmed":
            page = await self._log.read(source, Position(page.first_kept - 1))
        while page.entries:
            for data in page.entries:
                answer = _head.decode(data)
                if answer.type == "chat_response" and answer.timestamp >= since:
                    key = f"moved/{connection_id}/{answer.message_id}/{len(data)}"
                    await self._log.append_now(target, Entry(_readdressed(data, target), answer.message_id, key))
            page = await self._log.read(source, Position(page.since + len(page.entries)))


def _readdressed(data: bytes, log: str) -> bytes:
    """The same frame, in another log."""
    return msgspec.json.encode(_fields.decode(data) | {"log": Raw(msgspec.json.encode(log))})
