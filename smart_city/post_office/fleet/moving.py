"""Moving: what a connection's log got for a client that never came back goes to its user, so that no answer is lost.

Under the same message ids, and once however many instances try. When a connection has ended is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec
from msgspec import Raw, Struct

from foundations.telemetry import log_event
from smart_city.post_office.channels import connection_log, user_log
from smart_city.post_office.fleet.ownership import Owed
from smart_city.post_office.log import ChannelLog, Entry
from smart_city.vocabulary import Position

_log = logging.getLogger(__name__)


class _Head(Struct):
    message_id: str


_head = msgspec.json.Decoder(_Head)
_fields = msgspec.json.Decoder(dict[str, Raw])


class Moving:
    """Copies the end of connections' logs to their users' logs."""

    def __init__(self, log: ChannelLog) -> None:
        self._log = log

    async def move(self, owed: Owed) -> None:
        """Copies what came after the last publication that the client has certainly heard.

        Raises:
            CityError: not all could be copied; it can be done again.
        """
        source, target = connection_log(owed.connection_id), user_log(owed.user_id)
        page = await self._log.read(source, Position(owed.heard))
        if page.reason:  # what was heard is not kept any more, or was lost with an earlier life of the store
            page = await self._log.read(source, Position(page.first_kept - 1))
        moved = 0
        while page.entries:
            await asyncio.gather(*(
                self._copy(owed, data, Position(offset, page.epoch_of(offset)), target)
                for offset, data in enumerate(page.entries, page.since + 1)
            ))  # fmt: skip
            moved += len(page.entries)
            page = await self._log.read(source, Position(page.since + len(page.entries)))
        log_event(_log, "Answers moved", connection_id=owed.connection_id, user_id=owed.user_id, count=moved)

    async def _copy(self, owed: Owed, data: bytes, position: Position, target: str) -> None:
        """What cannot be read stays where it is, and keeps nothing behind it from being copied."""
        try:
            entry = Entry(
                _readdressed(data, target), _head.decode(data).message_id, f"moved/{owed.connection_id}/{position}"
            )
        except msgspec.MsgspecError:
            _log.exception("%s of the log of %s cannot be moved", position, owed.connection_id)
            return
        await self._log.append_now(target, entry)


def _readdressed(data: bytes, log: str) -> bytes:
    """The same frame, in another log."""
    fields = _fields.decode(data)
    return msgspec.json.encode(fields | {"log" if "log" in fields else "channel": Raw(msgspec.json.encode(log))})
