"""Telling askers: into which log an answer goes, once, and what is in there already.

A connection's own log takes answers while the connection lives, afterwards its user's does. Whether a question
may still be answered is not asked here, but in its inbox.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple, Protocol

from smart_city.post_office.answers import frames
from smart_city.post_office.answers.frames import About
from smart_city.post_office.inbox.questions import DeliveryId, Route
from smart_city.post_office.log import Appended, Entry, Gone


class Log(Protocol):
    """The channel log, as far as it is needed here."""

    async def append_now(self, channel: str, entry: Entry, *, owner: str = "") -> Appended: ...
    async def message_under(self, channel: str, key: str) -> str | None: ...


class Told(NamedTuple):
    """Where something stands for the asker; under another id when the key was used before."""

    log: str
    message_id: str


class FinalWord(NamedTuple):
    """An answer to a question: at once, or as the end of one in parts whose message id it has."""

    delivery: DeliveryId
    route: Route
    agent: str
    message_id: str
    payload: bytes
    intent: str = ""
    is_end: bool = False


class Askers:
    """The logs of those who asked."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def tell(self, route: Route, encode: Callable[[str], bytes], message_id: str, key: str) -> Told | None:
        """Logs what ``encode(log)`` makes for the asker, once for a key; nothing when nobody can be told.

        Raises:
            CityError: as the log's appends.
        """
        for log in _logs(route):
            owner = route.connection_id if log.startswith("connection:") else ""
            try:
                found = await self._log.append_now(log, Entry(encode(log), message_id, key), owner=owner)
            except Gone:
                continue
            return Told(log, found.message_id)
        return None

    async def answer(self, word: FinalWord) -> Told | None:
        """Says the final word on a question, once, however often and by whomever it is said."""
        about = about_delivery(word.delivery, word.route, word.agent)
        frame = frames.message if word.route.channel else partial(frames.whole, is_end=word.is_end)
        encode = partial(frame, about, message_id=word.message_id, payload=word.payload, intent=word.intent)
        return await self.tell(
            word.route, encode, word.message_id, final_key(word.delivery.message_id, word.route.life)
        )

    async def told_under(self, route: Route, key: str) -> Told | None:
        """What stands under this key, and in which of the asker's logs."""
        for log in _logs(route):
            if message_id := await self._log.message_under(log, key):
                return Told(log, message_id)
        return None

    async def final_word(self, route: Route, message_id: str) -> str | None:
        """Under which id the asker has had the final word on its question, if it has."""
        told = await self.told_under(route, final_key(message_id, route.life))
        return told.message_id if told else None

    async def has_final_word(self, message_id: str, logs: Iterable[str]) -> bool:
        """Whether one of these logs holds the first final word on a question."""
        found = await asyncio.gather(*(self._log.message_under(log, final_key(message_id)) for log in logs))
        return any(found)


def about_delivery(delivery: DeliveryId, route: Route, agent: str) -> About:
    """What all frames of an answer to this delivery say."""
    return About(delivery.channel, agent, delivery.message_id, route.conversation_id, route.traceparent)


def final_key(message_id: str, life: int = 0) -> str:
    """The key of a question's final word: an answer, an end, or the last error; one for each life."""
    return f"{message_id}/final/{life}" if life else f"{message_id}/final"


def last_error_id(message_id: str, life: int) -> str:
    """The id of the error that a question dies with, a UUIDv7: the same for whoever says it, and nobody else's."""
    told = hashlib.sha256(final_key(message_id, life).encode()).hexdigest()
    return f"{message_id[:13]}-7{told[:3]}-8{told[3:6]}-{told[6:18]}"


def start_key(delivery: DeliveryId) -> str:
    """The key of the beginning of an answer in parts, of one attempt."""
    return f"{delivery.message_id}/{delivery.serial}/start"


def error_key(delivery: DeliveryId) -> str:
    """The key of an attempt's error that is not the final word."""
    return f"{delivery.message_id}/{delivery.serial}/error"


def _logs(route: Route) -> list[str]:
    """Where answers on this route may stand, the first choice first."""
    if route.channel:
        return [route.channel]
    logs = []
    if route.connection_id:
        logs.append(f"connection:{route.connection_id}")
    if route.user_id:
        logs.append(f"user:{route.user_id}")
    return logs
