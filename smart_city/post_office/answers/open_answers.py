"""Answers in parts that are open, beside their askers' logs: the text so far, and whether they end or break off.

The parts are numbered, bounded and published here. That an answer ends and that it breaks off exclude each other, so
one of both is decided here, once, before either is logged. The frames in the log are not its work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from foundations.errors import CityError, TooLarge
from foundations.supervision import Tasks
from foundations.valkey.client import Valkey
from foundations.valkey.scripts import Script
from smart_city.post_office.log.bus import bus_channel
from smart_city.post_office.rounds import Rounds, resolve

FORGOTTEN_MS = 900 * 1000
"""After so long without a part, and without an end, an answer is nobody's any more."""


class Part(NamedTuple):
    """A piece of an answer: its number, its frame up to the text, and the text as it stands in JSON."""

    number: int
    head: bytes = b""
    text: bytes = b""


class End(Struct, frozen=True, kw_only=True):
    """How an answer shall end, in the words of who ended it."""

    v: int = 1
    agent: str
    intent: str
    payload: Raw


class Ended(NamedTuple):
    """An answer that shall end: its text, as it stands in JSON, and how."""

    text: bytes
    end: End


_Answer = list[Any] | CityError
_encode = msgspec.json.Encoder().encode
_end = msgspec.json.Decoder(End)


class _Item(NamedTuple):
    verb: str
    log: str
    message_id: str
    number: int | str
    head: bytes
    text: bytes
    end: bytes
    told: asyncio.Future[list[Any]]


class OpenAnswers:
    """All open answers, as one instance writes them; what one turn of the loop brings travels together."""

    def __init__(self, valkey: Valkey, tasks: Tasks, *, most_bytes: int) -> None:
        self._valkey = valkey
        self._most_bytes = most_bytes
        self._script = Script.read("smart_city.post_office.answers", "stream")
        self._rounds: Rounds[_Item, _Answer] = Rounds("open answers", tasks, self._send, _tell)

    async def open(self, log: str, message_id: str, head: bytes, text: bytes, *, is_hidden: bool) -> bool:
        """Begins an answer, unless it was decided that it breaks off; returns whether it did.

        Joiners get the frame ``head`` with the text so far, unless the answer is hidden.
        """
        number, *_ = await self._act("open", log, message_id, "hidden" if is_hidden else "", head, text)
        return bool(number >= 0)

    async def append(self, log: str, message_id: str, part: Part) -> int | None:
        """Adds a part and tells it to those who listen, once; returns the newest part, nothing if ended.

        Raises:
            TooLarge: the whole would be too long; nothing was added.
        """
        number, *_ = await self._act("append", log, message_id, *part)
        return None if number < 0 else int(number)

    async def close(self, log: str, message_id: str, part: Part, end: End) -> Ended | None:
        """Adds the last part and decides that the answer ends, in the words that were first; nothing if ended.

        Raises:
            TooLarge: the whole would be too long; nothing was done.
        """
        number, *rest = await self._act("close", log, message_id, *part, end=_encode(end))
        return None if number < 0 else Ended(rest[0], _end.decode(rest[1]))

    async def fail(self, log: str, message_id: str) -> Ended | bytes | None:
        """Decides that the answer breaks off and returns its text, unless it was decided that it ends.

        Nothing when there is none: it is yet to begin, or its end is logged and settled.
        """
        number, *rest = await self._act("fail", log, message_id, 0)
        if number < 0:
            return None
        text, end = rest
        return Ended(text, _end.decode(end)) if end else bytes(text)

    async def forget(self, log: str, message_id: str) -> None:
        """Removes an answer whose end is logged."""
        await self._act("forget", log, message_id, 0)

    async def _act(
        self, verb: str, log: str, message_id: str, number: int | str, head: bytes = b"", text: bytes = b"",
        end: bytes = b"",
    ) -> list[Any]:  # fmt: skip
        told: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._rounds.add(_Item(verb, log, message_id, number, head, text, end, told), len(text) + len(end))
        found = await told
        if found[0] == -2:
            raise TooLarge(f"the whole answer may have {self._most_bytes} bytes")
        return found

    async def _send(self, items: Sequence[_Item]) -> Sequence[_Answer]:
        """Sends all slots together; what one of them cannot take is no matter of the others."""
        slots = self._valkey.by_slot(enumerate(items), lambda numbered: bus_channel(numbered[1].log))
        answers = await asyncio.gather(*(self._answers([item for _, item in those]) for those in slots))
        told = {
            number: answer
            for those, theirs in zip(slots, answers, strict=True)
            for (number, _), answer in zip(those, theirs, strict=True)
        }
        return [told[number] for number in range(len(items))]

    async def _answers(self, items: Sequence[_Item]) -> Sequence[_Answer]:
        """What a call for logs of one slot answers, or for each why there is no answer."""
        keys = [key for item in items for key in self._keys(item)]
        args: list[str | int | bytes] = [FORGOTTEN_MS, self._most_bytes]
        for item in items:
            args += (item.verb, item.message_id, item.number, item.head, item.text, item.end)
        try:
            answers: Sequence[list[Any]] = await self._valkey.run(self._script, keys, args)
        except CityError as error:
            return [error] * len(items)
        return answers

    def _keys(self, item: _Item) -> tuple[str, ...]:
        log = self._valkey.key(bus_channel(item.log))
        return log, f"{log}:open", f"{log}:drafts", f"{log}:streams"


def _tell(item: _Item, answer: _Answer) -> None:
    resolve(item.told, answer)
