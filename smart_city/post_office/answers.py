"""What agents say of their deliveries: answers at once or in parts, done, failed, more time, handed on.

An answer is logged for its asker first and acknowledged then; keys make repeating safe. What is said of one
delivery is carried out in the order in which it was said. Who may say it is not decided here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import msgspec
from msgspec import Raw

from foundations.errors import (
    CityError,
    Conflict,
    InvalidMessage,
    Overloaded,
    StaleDelivery,
    TooLarge,
    UnknownChannel,
)
from foundations.supervision import Tasks
from foundations.telemetry import Counters
from foundations.valkey.client import Valkey
from smart_city.post_office import answer_frames as frames
from smart_city.post_office.answer_frames import About
from smart_city.post_office.askers import Askers, Log, Told, final_key, start_key
from smart_city.post_office.deliveries import How
from smart_city.post_office.envelopes import new_message_id
from smart_city.post_office.gathering import Gathering
from smart_city.post_office.inbox import Inbox
from smart_city.post_office.open_answers import OpenAnswers, Part
from smart_city.post_office.questions import MOST_HOPS, DeliveryId, Route, Standing, handed_on
from smart_city.post_office.returns import Returns

_log = logging.getLogger(__name__)

Payload = bytes | Raw | Mapping[str, Any]
"""A JSON object, encoded or not."""
Stream = Literal["", "start", "delta", "end"]
IDLE_LEASES = 3
"""An answer in parts is forgotten here after so many leases without a word; Valkey knows it all the same."""


@dataclass(slots=True, eq=False)
class _Turn:
    """Whose turn it is on one delivery, and the answer in parts that is given on it here."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    gathering: Gathering | None = None
    heard_at: float = 0.0


class Answers:
    """The agents' words, as one instance carries them out.

    ``gather_seconds``: how long deltas are gathered. ``most_bytes``: of a whole answer.
    """

    def __init__(
        self, valkey: Valkey, tasks: Tasks, log: Log, inbox: Inbox, counters: Counters, *,
        gather_seconds: float, most_bytes: int,
    ) -> None:  # fmt: skip
        self._tasks = tasks
        self._inbox = inbox
        self._deliveries = inbox.deliveries
        self._counters = counters
        self._gather_seconds = gather_seconds
        self._most_bytes = most_bytes
        self._turns: dict[str, _Turn] = {}
        self.askers = Askers(log)
        self._open_answers = OpenAnswers(valkey, tasks, most_bytes=most_bytes)
        self.returns = Returns(self.askers, inbox, self._open_answers, counters)

    async def reply(
        self, delivery_id: str, agent: str, payload: Payload, *, intent: str = "", stream: Stream = ""
    ) -> None:
        """Answers a delivery as the realm ``agent``, at once or with ``stream`` in parts; deltas do not wait.

        Without ``stream``, or with ``end``, the delivery is acknowledged. A plain answer ends one in parts.

        Raises:
            StaleDelivery: the lease of the delivery lapsed, or it was settled.
            InvalidMessage: the payload is no object, a delta without text, a part without a start.
            Conflict: a start while an answer in parts is open.
            TooLarge: the answer, or all parts together, are too long.
        """
        delivery, data = DeliveryId.parse(delivery_id), self._encoded(payload)
        async with self._turn(delivery_id) as turn:
            if stream == "start":
                await self._start(turn, delivery, agent, data, intent)
            elif stream == "delta":
                await self._add(turn, delivery, agent, data)
            else:
                standing = await self._deliveries.check(delivery)
                if stream == "end" or standing.stream:
                    await self._end(turn, standing, agent, data, intent)
                else:
                    await self._answer(standing, agent, data, intent)

    async def done(self, delivery_ids: Sequence[str]) -> None:
        """Acknowledges deliveries; an answer in parts that is open ends with the text it has.

        Raises:
            StaleDelivery: naming those that were stale. The others are acknowledged.
        """
        for delivery_id in delivery_ids:
            if delivery_id in self._turns:
                async with self._turn(delivery_id):
                    pass  # what was said of it before comes first
        good, stale = _parsed(delivery_ids)
        settled = await self._deliveries.done(good)
        for standing in settled.open:
            async with self._turn(str(standing.delivery)) as turn:
                await self._end(turn, standing, standing.agent, frames.EMPTY, "")
        stale += [str(delivery) for delivery in settled.stale]
        if stale:
            raise StaleDelivery(f"not good any more: {', '.join(stale)[:1000]}")

    async def working(self, delivery_id: str, lease_seconds: float | None = None) -> None:
        """Asks for more time.

        Raises:
            StaleDelivery: its lease lapsed, or it was settled.
        """
        await self._deliveries.extend(DeliveryId.parse(delivery_id), lease_seconds)

    async def failed(self, delivery_id: str, reason: str, *, retry: bool = True) -> None:
        """Gives a delivery back: it is tried again, or dies at once.

        Raises:
            StaleDelivery: its lease lapsed, or it was settled.
        """
        delivery = DeliveryId.parse(delivery_id)
        async with self._turn(delivery_id) as turn:
            await self._take_back(turn, delivery, f"failed: {reason}", "try" if retry else "dead")

    async def forward(self, delivery_id: str, channel: str) -> None:
        """Hands a question on to another inbox, with asker and conversation; the ninth hop is its death.

        Raises:
            StaleDelivery: its lease lapsed, or it was settled.
            UnknownChannel: there is no such inbox.
            Overloaded: the other inbox takes no more; the delivery stays.
        """
        delivery = DeliveryId.parse(delivery_id)
        if channel not in self._inbox.channels:
            raise UnknownChannel(f"there is no inbox {channel[:160]!r}")
        async with self._turn(delivery_id) as turn:
            standing = await self._deliveries.check(delivery)
            if standing.hops >= MOST_HOPS:
                return await self._take_back(turn, delivery, "hops", "dead")
            if standing.stream:
                await self.returns.break_off(standing, "forwarded")
            self._drop(turn)
            await self._hand_on(delivery, channel)
        return None

    def close(self) -> None:
        """Stops telling parts by itself; what is open ends when its deliveries are handed back."""
        for turn in self._turns.values():
            self._drop(turn)

    # An answer at once

    async def _answer(self, standing: Standing, agent: str, payload: bytes, intent: str) -> None:
        await self._say_finally(standing, agent, new_message_id(), payload, intent, is_end=False)
        await self._settle(standing.delivery)

    async def _say_finally(
        self, standing: Standing, agent: str, message_id: str, payload: bytes, intent: str, *, is_end: bool
    ) -> Told | None:
        """The final word, which the asker hears once however often it is said."""
        if len(payload) > self._most_bytes:
            raise TooLarge(f"an answer may have {self._most_bytes} bytes, this one has {len(payload)}")
        about = _about(standing.delivery, standing.route, agent)
        frame = frames.message if standing.route.channel else partial(frames.whole, is_end=is_end)
        encode = partial(frame, about, message_id=message_id, payload=payload, intent=intent)
        key = final_key(standing.delivery.message_id)
        told = await self.askers.tell(standing.route, encode, message_id, key)
        self._counters.answers += 1
        return told

    async def _settle(self, delivery: DeliveryId) -> None:
        """The answer is safe: what cannot be settled now is found answered when its lease lapses."""
        try:
            await self._deliveries.close(delivery)
        except CityError as error:
            _log.warning("%s is answered, but not settled yet: %s", delivery, error)

    # An answer in parts

    async def _start(
        self, turn: _Turn, delivery: DeliveryId, agent: str, payload: bytes, intent: str
    ) -> None:
        stream = new_message_id()
        standing = await self._deliveries.open(delivery, stream, agent)
        if standing.stream and turn.gathering is not None:
            raise Conflict("an answer in parts to this delivery is open already")
        stream = standing.stream or stream  # begun before, and whoever began it was not told
        about, route = _about(delivery, standing.route, agent), standing.route
        told = None
        if not route.channel:
            encode = partial(frames.start, about, message_id=stream, payload=payload, intent=intent)
            told = await self.askers.tell(route, encode, stream, start_key(delivery))
        log = told.log if told else route.channel or delivery.channel
        text = frames.escaped(frames.text_of(payload) or "")
        head = frames.snapshot_head(about, log, stream)
        await self._open_answers.open(log, stream, head, text, is_hidden=told is None)
        self._gather(turn, delivery, about, log, stream, newest_part=0)

    async def _add(self, turn: _Turn, delivery: DeliveryId, agent: str, payload: bytes) -> None:
        text = frames.text_of(payload)
        if text is None:
            raise InvalidMessage('Invalid message format: a delta\'s payload is {"message": TEXT}')
        gathering = turn.gathering
        if gathering is None:
            gathering = await self._adopt(turn, await self._deliveries.check(delivery))
        try:
            gathering.add(text)
        except (StaleDelivery, TooLarge):
            self._drop(turn)
            raise
        await self._keep_lease(turn, delivery)

    async def _end(self, turn: _Turn, standing: Standing, agent: str, payload: bytes, intent: str) -> None:
        gathering = turn.gathering or await self._adopt(turn, standing)
        whole = frames.with_text(payload, await gathering.finish())
        is_end = not standing.route.channel
        told = await self._say_finally(standing, agent, standing.stream, whole, intent, is_end=is_end)
        if told is not None and told.message_id != standing.stream:
            await self.returns.break_off(standing, "superseded", is_answered=True)
        self._drop(turn)
        await self._open_answers.forget(gathering.log, standing.stream)
        await self._settle(standing.delivery)

    async def _adopt(self, turn: _Turn, standing: Standing) -> Gathering:
        """Goes on with an answer that began on another instance, or that was forgotten here."""
        delivery, route, stream = standing.delivery, standing.route, standing.stream
        log = route.channel or await self.askers.log_with(route, start_key(delivery)) or delivery.channel
        newest = await self._open_answers.append(log, stream, Part(0)) if stream else None
        if newest is None:
            raise InvalidMessage("no answer in parts is open: begin it with stream start")
        return self._gather(turn, delivery, _about(delivery, route, standing.agent), log, stream, newest)

    def _gather(
        self, turn: _Turn, delivery: DeliveryId, about: About, log: str, stream: str, newest_part: int
    ) -> Gathering:
        def end_too_large() -> None:
            self._tasks.spawn("end of an answer too large", self._end_too_large(delivery))

        turn.gathering = Gathering(
            about, log, stream, open_answers=self._open_answers, tasks=self._tasks,
            seconds=self._gather_seconds, newest_part=newest_part, on_too_large=end_too_large,
        )  # fmt: skip
        turn.heard_at = asyncio.get_running_loop().time()
        self._forget_when_idle(str(delivery), turn)
        return turn.gathering

    async def _keep_lease(self, turn: _Turn, delivery: DeliveryId) -> None:
        """Parts are a sign of life."""
        now = asyncio.get_running_loop().time()
        if now - turn.heard_at > self._inbox.limits.lease_seconds / 3:
            turn.heard_at = now
            await self._deliveries.extend(delivery)

    async def _end_too_large(self, delivery: DeliveryId) -> None:
        async with self._turn(str(delivery)):
            reclaimed = await self._deliveries.take_back(delivery, "too_large", "dead")
            await self.returns.end(reclaimed)

    def _forget_when_idle(self, delivery_id: str, turn: _Turn) -> None:
        """Whatever became of the delivery elsewhere, nothing of it stays here for ever."""
        loop = asyncio.get_running_loop()
        idle = self._inbox.limits.lease_seconds * IDLE_LEASES

        def look() -> None:
            if turn.gathering is None or self._turns.get(delivery_id) is not turn:
                return
            if loop.time() - turn.heard_at >= idle and not turn.waiting:
                self._drop(turn)
                self._turns.pop(delivery_id)
            else:
                loop.call_later(idle, look)

        loop.call_later(idle, look)

    # Given back, handed on

    async def _take_back(self, turn: _Turn, delivery: DeliveryId, why: str, how: How) -> None:
        reclaimed = await self._deliveries.take_back(delivery, why, how)
        self._drop(turn)
        await self.returns.end(reclaimed)

    async def _hand_on(self, delivery: DeliveryId, channel: str) -> None:
        """Noted here first, so that whoever reclaims the delivery finishes what has begun."""
        leaving = await self._deliveries.leave(delivery, channel)
        try:
            await self._inbox.send_now(handed_on(leaving, channel))
        except (Overloaded, Conflict):
            await self._deliveries.stay(delivery)
            raise
        await self._deliveries.close(delivery)

    # Whose turn it is

    @asynccontextmanager
    async def _turn(self, delivery_id: str) -> AsyncIterator[_Turn]:
        turn = self._turns.setdefault(delivery_id, _Turn())
        turn.waiting += 1
        try:
            async with turn.lock:
                yield turn
        finally:
            turn.waiting -= 1
            if not turn.waiting and turn.gathering is None:
                self._turns.pop(delivery_id, None)

    def _drop(self, turn: _Turn) -> None:
        if turn.gathering is not None:
            turn.gathering.stop()
            turn.gathering = None

    def _encoded(self, payload: Payload) -> bytes:
        data = msgspec.json.encode(payload) if isinstance(payload, Mapping) else bytes(payload)
        frames.check_object(data)
        return data


def _about(delivery: DeliveryId, route: Route, agent: str) -> About:
    return About(delivery.channel, agent, delivery.message_id, route.conversation_id)


def _parsed(delivery_ids: Sequence[str]) -> tuple[list[DeliveryId], list[str]]:
    """Delivery ids taken apart, and those that never were any."""
    good, stale = [], []
    for delivery_id in delivery_ids:
        try:
            good.append(DeliveryId.parse(delivery_id))
        except StaleDelivery:
            stale.append(delivery_id)
    return good, stale
