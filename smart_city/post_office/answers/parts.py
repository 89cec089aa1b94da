"""Answers in parts, given on this instance: their starts, deltas and ends, and the leases that they keep.

How deltas are gathered is `gathering`'s work, and how an answer breaks off that nobody ends is `returns`'.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from msgspec import Raw

from foundations.errors import CityError, Conflict, InvalidMessage, StaleDelivery, TooLarge, Unavailable
from foundations.supervision import Tasks
from smart_city.post_office.answers import frames
from smart_city.post_office.answers.askers import Askers, about_delivery, start_key
from smart_city.post_office.answers.frames import About
from smart_city.post_office.answers.gathering import Gathering
from smart_city.post_office.answers.open_answers import End, OpenAnswers, Part
from smart_city.post_office.answers.returns import Returns
from smart_city.post_office.envelopes import new_message_id
from smart_city.post_office.inbox import Inbox
from smart_city.post_office.inbox.questions import DeliveryId, Standing
from smart_city.post_office.keep import Keep

BROKEN_OFF = "this answer was broken off: its lease lapsed, or it was given back"
IDLE_LEASES = 3
"""An answer is forgotten here after so many leases without a word; Valkey knows it all the same."""


@dataclass(slots=True, eq=False)
class _Given:
    """An answer that is being given here, and when it was last heard of."""

    gathering: Gathering
    log: str
    stream: str
    heard_at: float


class Parts:
    """The answers in parts of one instance. Calls for one delivery come one after the other."""

    def __init__(
        self, inbox: Inbox, askers: Askers, open_answers: OpenAnswers, returns: Returns, tasks: Tasks, *,
        gather_seconds: float, on_too_large: Callable[[DeliveryId], None], keep: Keep,
    ) -> None:  # fmt: skip
        self._deliveries = inbox.deliveries
        self._lease = inbox.limits.lease_seconds
        self._askers = askers
        self._open_answers = open_answers
        self._returns = returns
        self._tasks = tasks
        self._gather_seconds = gather_seconds
        self._on_too_large = on_too_large
        self._keep = keep
        self._given: dict[DeliveryId, _Given] = {}

    def __len__(self) -> int:
        return len(self._given)

    async def start(self, delivery: DeliveryId, agent: str, payload: bytes, intent: str) -> None:
        """Begins an answer; text in the payload is its first.

        Raises:
            StaleDelivery: the delivery is not good any more.
            Conflict: an answer is open already.
        """
        stream = new_message_id()
        standing = await self._deliveries.open(delivery, stream, agent)
        if standing.stream and delivery in self._given:
            raise Conflict("an answer in parts to this delivery is open already")
        stream = standing.stream or stream  # begun before, and whoever began it was not told
        about, route, told = about_delivery(delivery, standing.route, agent), standing.route, None
        if not route.channel:
            encode = partial(frames.start, about, message_id=stream, payload=payload, intent=intent)
            told = await self._askers.tell(route, encode, stream, start_key(delivery))
        log = told.log if told else route.channel or delivery.channel
        text = frames.escaped(frames.text_of(payload) or "")
        head = frames.snapshot_head(about, log, stream)
        if not await self._open_answers.open(log, stream, head, text, is_hidden=told is None):
            raise StaleDelivery(BROKEN_OFF)
        self._give(delivery, about, log, stream, newest_part=0)

    async def add(self, delivery: DeliveryId, payload: bytes) -> None:
        """Adds text, to be told soon.

        Raises:
            StaleDelivery: the delivery is not good any more.
            InvalidMessage: the payload has no text, or no answer is open.
            TooLarge: the answer became too long and was ended.
        """
        text = frames.text_of(payload)
        if text is None:
            raise InvalidMessage('Invalid message format: a delta\'s payload is {"message": TEXT}')
        given = self._given.get(delivery) or await self._adopt(await self._deliveries.check(delivery))
        try:
            given.gathering.add(text)
        except TooLarge:
            self.drop(delivery)
            raise
        now = asyncio.get_running_loop().time()
        if now - given.heard_at > self._lease / 3:  # parts are a sign of life
            given.heard_at = now
            with suppress(Unavailable):  # the text is taken: whoever said it must not say it again
                await self._deliveries.extend(delivery)

    async def end(self, standing: Standing, agent: str, payload: bytes, intent: str) -> None:
        """Ends the open answer with its whole text, unless the payload has a message of its own.

        Raises:
            StaleDelivery: the answer was broken off.
            InvalidMessage: no answer is open.
        """
        given = self._given.get(standing.delivery) or await self._adopt(standing)
        ended = await given.gathering.finish(End(agent=agent, intent=intent, payload=Raw(payload)))
        if ended is None:
            raise StaleDelivery(BROKEN_OFF)
        await self._returns.say_end(standing, ended)
        self.drop(standing.delivery)
        self._tasks.spawn("forgetting", self._quietly(self._open_answers.forget, given))

    def abandon(self, delivery: DeliveryId) -> None:
        """The delivery is not good any more: whatever of its answer began here breaks off."""
        given = self.drop(delivery)
        if given is not None:
            self._tasks.spawn("breaking off", self._quietly(self._open_answers.fail, given))

    def drop(self, delivery: DeliveryId) -> _Given | None:
        """Tells nothing more of an answer here; its end or its breaking off is somebody else's."""
        given = self._given.pop(delivery, None)
        if given is not None:
            given.gathering.stop()
        return given

    def close(self) -> None:
        """Tells nothing more; what is open breaks off when its deliveries are handed back."""
        for delivery in list(self._given):
            self.drop(delivery)

    async def _quietly(self, clean: Callable[[str, str], Awaitable[object]], given: _Given) -> None:
        """What is left lying is forgotten in time."""
        with suppress(CityError):
            await clean(given.log, given.stream)

    async def _adopt(self, standing: Standing) -> _Given:
        """Goes on with an answer that began on another instance, or that was forgotten here."""
        delivery, route, stream = standing.delivery, standing.route, standing.stream
        started = None if route.channel else await self._askers.told_under(route, start_key(delivery))
        log = started.log if started else route.channel or delivery.channel
        newest = await self._open_answers.append(log, stream, Part(0)) if stream else None
        if newest is None:
            raise InvalidMessage("no answer in parts is open: begin it with stream start")
        return self._give(delivery, about_delivery(delivery, route, standing.agent), log, stream, newest)

    def _give(self, delivery: DeliveryId, about: About, log: str, stream: str, newest_part: int) -> _Given:
        gathering = Gathering(
            about, log, stream, open_answers=self._open_answers, tasks=self._tasks, newest_part=newest_part,
            seconds=self._gather_seconds, on_too_large=partial(self._on_too_large, delivery), keep=self._keep,
        )  # fmt: skip
        given = _Given(gathering, log, stream, heard_at=asyncio.get_running_loop().time())
        self._given[delivery] = given
        self._forget_when_idle(delivery, given)
        return given

    def _forget_when_idle(self, delivery: DeliveryId, given: _Given) -> None:
        """Whatever became of the delivery elsewhere, nothing of it stays here for ever."""
        loop = asyncio.get_running_loop()
        idle = self._lease * IDLE_LEASES

        def look() -> None:
            if self._given.get(delivery) is not given:
                return
            if loop.time() - given.heard_at >= idle:
                self.drop(delivery)
            else:
                loop.call_later(idle, look)

        loop.call_later(idle, look)
