"""The text so far of answers in parts, beside the asker's log: added to, published, and read by joiners.

It numbers the parts and bounds the whole. The frames that begin and end an answer are in the log and not its
work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from foundations.errors import CityError, TooLarge
from foundations.supervision import Tasks
from foundations.valkey.client import Valkey
from foundations.valkey.scripts import Script
from smart_city.post_office.rounds import Rounds, resolve

FORGOTTEN_MS = 3600 * 1000
"""After so long without a part an answer is nobody's any more."""


class Part(NamedTuple):
    """A piece of an answer: its number, its frame up to the text, and the text as it stands in JSON."""

    number: int
    head: bytes = b""
    text: bytes = b""


class _Item(NamedTuple):
    verb: str
    log: str
    message_id: str
    part: int | str
    head: bytes
    text: bytes
    told: asyncio.Future[list[Any]]


class OpenAnswers:
    """All open answers, as one instance writes them; what one turn of the loop brings travels together."""

    def __init__(self, valkey: Valkey, tasks: Tasks, *, most_bytes: int) -> None:
        self._valkey = valkey
        self._most_bytes = most_bytes
        self._script = Script.read("smart_city.post_office", "stream")
        self._rounds: Rounds[_Item, list[Any]] = Rounds("open answers", tasks, self._send, _tell)

    async def open(self, log: str, message_id: str, head: bytes, text: bytes, *, is_hidden: bool) -> None:
        """Begins an answer; joiners get the frame ``head`` with the text so far, unless it is hidden."""
        await self._act("open", log, message_id, Part(0, head, text), "hidden" if is_hidden else "")

    async def append(self, log: str, message_id: str, part: Part) -> int | None:
        """Adds a part and tells it to those who listen, once; returns the newest part, nothing if forgotten.

        Raises:
            TooLarge: the whole would be too long; nothing was added.
        """
        number, *_ = await self._act("append", log, message_id, part)
        return None if number < 0 else int(number)

    async def close(self, log: str, message_id: str, part: Part) -> bytes | None:
        """Adds the last part, shows it to no joiner any more, returns the whole text; nothing if forgotten.

        Raises:
            TooLarge: the whole would be too long; nothing was done.
        """
        _, *whole = await self._act("close", log, message_id, part)
        return whole[0] if whole else None

    async def forget(self, log: str, message_id: str) -> None:
        """Removes an answer whose end is logged."""
        await self._act("forget", log, message_id, Part(0))

    async def _act(
        self, verb: str, log: str, message_id: str, part: Part, number: str | None = None
    ) -> list[Any]:
        told: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        item = _Item(
            verb, log, message_id, part.number if number is None else number, part.head, part.text, told
        )
        self._rounds.add(item, len(part.text))
        found = await told
        if found[0] == -2:
            raise TooLarge(f"the whole answer may have {self._most_bytes} bytes")
        return found

    async def _send(self, items: Sequence[_Item]) -> Sequence[list[Any]]:
        keys = [self._valkey.key(f"log:{{{item.log}}}") for item in items]
        args: list[str | int | bytes] = [FORGOTTEN_MS, self._most_bytes]
        for item in items:
            args += (item.verb, item.message_id, item.part, item.head, item.text)
        answers: Sequence[list[Any]] = await self._valkey.run(self._script, keys, args)
        return answers


def _tell(item: _Item, answer: list[Any] | CityError) -> None:
    resolve(item.told, answer)
