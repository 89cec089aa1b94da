"""What agents say of their deliveries: answers at once or in parts, done, failed, more time, handed on.

An answer is logged for its asker first and acknowledged then; keys make repeating safe. What is said of one
delivery is carried out in the order in which it was said, and done again while the store is away. Who may say it
is not decided here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec
from msgspec import Raw

from foundations.errors import CityError, Conflict, Overloaded, StaleDelivery, TooLarge, UnknownChannel
from foundations.supervision import Tasks
from foundations.telemetry import Counters, Traces, is_sampled
from foundations.valkey.client import Valkey
from smart_city.post_office.answers import frames
from smart_city.post_office.answers.askers import Askers, FinalWord, Log
from smart_city.post_office.answers.open_answers import OpenAnswers
from smart_city.post_office.answers.parts import Parts
from smart_city.post_office.answers.returns import Returns
from smart_city.post_office.answers.spoken import Spoken
from smart_city.post_office.answers.stopping import Stopping
from smart_city.post_office.envelopes import new_message_id
from smart_city.post_office.inbox import Inbox
from smart_city.post_office.inbox.deliveries import How
from smart_city.post_office.inbox.questions import MOST_HOPS, DeliveryId, Standing, handed_on
from smart_city.post_office.keep import Keep
from smart_city.post_office.spans import answered

_log = logging.getLogger(__name__)

Payload = bytes | Raw | Mapping[str, Any]
"""A JSON object, encoded or not."""
Stream = Literal["", "start", "delta", "end"]
SETTLE_SECONDS = 0.5
"""How often is asked for what could not be settled."""


@dataclass(slots=True, eq=False)
class _Turn:
    """Whose turn it is on one delivery."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


class Answers:
    """The agents' words, as one instance carries them out.

    ``gather_seconds``: how long deltas are gathered. ``most_bytes``: of a whole answer.
    """

    def __init__(
        self, valkey: Valkey, tasks: Tasks, log: Log, inbox: Inbox, counters: Counters, traces: Traces, *,
        gather_seconds: float, most_bytes: int, keep: Keep | None = None,
    ) -> None:  # fmt: skip
        self.keep = keep = keep or Keep()
        self.spoken = Spoken(tasks, keep)
        self._tasks = tasks
        self._inbox = inbox
        self._deliveries = inbox.deliveries
        self._counters = counters
        self._traces = traces
        self._most_bytes = most_bytes
        self._turns: dict[DeliveryId, _Turn] = {}
        self._unsettled: dict[DeliveryId, float] = {}
        """Deliveries that are answered but could not be settled, and when to leave that to the reapers."""
        self.askers = Askers(log)
        open_answers = OpenAnswers(valkey, tasks, most_bytes=most_bytes)
        self.returns = Returns(self.askers, inbox, open_answers, counters)
        self.stopping = Stopping(inbox, self.returns, self.askers)
        self._parts = Parts(
            inbox, self.askers, open_answers, self.returns, tasks,
            gather_seconds=gather_seconds, on_too_large=self._end_too_large, keep=keep,
        )  # fmt: skip

    @property
    def under_way(self) -> int:
        """How many deliveries something is remembered of here: words being carried out, answers in parts."""
        return len(self._turns) + len(self._parts)

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

        async def step(_: bool) -> None:
            if stream == "start":
                await self._parts.start(delivery, agent, data, intent)
            elif stream == "delta":
                await self._parts.add(delivery, data)
            else:
                standing = await self._deliveries.check(delivery)
                ends = stream == "end" or standing.stream
                with self._recorded(standing) as answer:
                    await (self._end if ends else self._answer)(answer, agent, data, intent)

        async with self._turn(delivery):
            await self.spoken.insist(step)

    async def done(self, delivery_ids: Sequence[str]) -> None:
        """Acknowledges deliveries; an answer in parts that is open ends with the text it has.

        Raises:
            StaleDelivery: naming those that were stale. The others are acknowledged.
        """
        good, stale = _parsed(delivery_ids)
        for delivery in good:
            if delivery in self._turns:
                async with self._turn(delivery):
                    pass  # what was said of it before comes first

        async def step(is_repeated: bool) -> None:
            settled = await self._deliveries.done(good)
            for standing in settled.open:
                async with self._turn(standing.delivery):
                    await self._end(standing, standing.agent, frames.EMPTY, "")
            if not is_repeated:  # else they are settled, and whoever did it was not told
                stale.extend(str(delivery) for delivery in settled.stale)

        await self.spoken.insist(step)
        if stale:
            raise StaleDelivery(f"not good any more: {', '.join(stale)[:1000]}")

    async def working(self, delivery_id: str, lease_seconds: float | None = None) -> None:
        """Asks for more time.

        Raises:
            StaleDelivery: its lease lapsed, or it was settled.
        """
        delivery = DeliveryId.parse(delivery_id)
        await self.spoken.insist(lambda _: self._deliveries.extend(delivery, lease_seconds))

    async def failed(self, delivery_id: str, reason: str, *, retry: bool = True) -> None:
        """Gives a delivery back: it is tried again, or dies at once.

        Raises:
            StaleDelivery: its lease lapsed, or it was settled.
        """
        delivery = DeliveryId.parse(delivery_id)

        async def step(is_repeated: bool) -> None:
            with _carried_out_before(is_repeated):
                await self._take_back(delivery, f"failed: {reason}", "try" if retry else "dead")

        async with self._turn(delivery):
            await self.spoken.insist(step)

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

        async def step(is_repeated: bool) -> None:
            with _carried_out_before(is_repeated):
                if not is_repeated or await self._stands(delivery):
                    await self._forward(delivery, channel)
                else:
                    await self._hand_on(delivery, channel)  # begun before, and perhaps done

        async with self._turn(delivery):
            await self.spoken.insist(step)

    async def flush(self, timeout: float) -> int:  # noqa: ASYNC109  # nothing is raised
        """Waits until every word is carried out, at most ``timeout`` seconds; returns how many are not."""
        return await self.spoken.idle(timeout)

    def stopped(self, delivery: DeliveryId) -> None:
        """Nobody wants the answer any more; how it ends is told by whoever stopped it."""
        self._parts.drop(delivery)

    def close(self) -> None:
        """Tells no parts any more; what is open breaks off when its deliveries are handed back."""
        self._parts.close()

    @contextmanager
    def _recorded(self, standing: Standing) -> Iterator[Standing]:
        """The delivery with its answer's context, whose span ends with the block, if the question is sampled."""
        is_recorded = self._traces.is_on and is_sampled(standing.route.traceparent)
        span = answered(self._traces, standing) if is_recorded else None
        if span is None:
            yield standing
            return
        try:
            yield replace(standing, route=msgspec.structs.replace(standing.route, traceparent=span.context))
        except CityError as error:
            span.end(error.code)
            raise
        span.end()

    async def _answer(self, standing: Standing, agent: str, payload: bytes, intent: str) -> None:
        await self.askers.answer(FinalWord(standing.delivery, standing.route, agent, new_message_id(), payload, intent))
        self._counters.answers += 1
        await self._settle(standing.delivery)

    async def _end(self, standing: Standing, agent: str, payload: bytes, intent: str) -> None:
        await self._parts.end(standing, agent, payload, intent)
        await self._settle(standing.delivery)

    async def _take_back(self, delivery: DeliveryId, why: str, how: How) -> None:
        reclaimed = await self._deliveries.take_back(delivery, why, how)
        self._parts.drop(delivery)
        await self.returns.end(reclaimed)

    def _end_too_large(self, delivery: DeliveryId) -> None:
        async def end() -> None:
            async with self._turn(delivery):
                await self.returns.end(await self._deliveries.take_back(delivery, "too_large", "dead"))

        self._tasks.spawn("end of an answer too large", end())

    async def _stands(self, delivery: DeliveryId) -> bool:
        try:
            await self._deliveries.check(delivery)
        except StaleDelivery:
            return False
        return True

    async def _forward(self, delivery: DeliveryId, channel: str) -> None:
        standing = await self._deliveries.check(delivery)
        self._parts.drop(delivery)
        if standing.hops >= MOST_HOPS:
            await self._take_back(delivery, "hops", "dead")
        else:
            await self._hand_on(delivery, channel)

    async def _hand_on(self, delivery: DeliveryId, channel: str) -> None:
        """Noted here first, so that whoever reclaims the delivery finishes what has begun."""
        leaving = await self._deliveries.leave(delivery, channel)
        if leaving.stream and await self.returns.break_off(leaving):
            await self._settle(delivery)
            raise StaleDelivery(f"the delivery {delivery} is answered already")
        try:
            await self._inbox.send_now(handed_on(leaving, channel))
        except (Overloaded, Conflict):
            await self._deliveries.stay(delivery)
            raise
        await self._deliveries.close(delivery)

    # Settling

    async def _settle(self, delivery: DeliveryId) -> None:
        """The answer is safe; its lane would wait, though, so a store that does not answer is asked again."""
        try:
            await self._deliveries.close(delivery)
        except CityError as error:
            _log.warning("%s is answered, but not settled yet: %s", delivery, error)
            if not self._unsettled:
                self._tasks.spawn("settling what is answered", self._settle_the_rest())
            now = asyncio.get_running_loop().time()
            self._unsettled[delivery] = now + self.keep.seconds

    async def _settle_the_rest(self) -> None:
        """On the return they are settled before anything is reaped, however long ago they were answered."""
        while self._unsettled:
            await asyncio.sleep(SETTLE_SECONDS)
            for delivery, ends_at in list(self._unsettled.items()):
                if asyncio.get_running_loop().time() < ends_at:
                    try:
                        await self._deliveries.close(delivery)
                    except CityError:
                        break
                del self._unsettled[delivery]

    # Whose turn it is

    @asynccontextmanager
    async def _turn(self, delivery: DeliveryId) -> AsyncIterator[None]:
        """What was said of a delivery before comes first; what is said of a stale one ends it here."""
        turn = self._turns.setdefault(delivery, _Turn())
        turn.waiting += 1
        try:
            async with turn.lock:
                yield
        except StaleDelivery:
            self._parts.abandon(delivery)
            raise
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                del self._turns[delivery]

    def _encoded(self, payload: Payload) -> bytes:
        data = msgspec.json.encode(payload) if isinstance(payload, Mapping) else bytes(payload)
        frames.check_object(data)
        if len(data) > self._most_bytes:
            raise TooLarge(f"an answer may have {self._most_bytes} bytes, this one has {len(data)}")
        return data


@contextmanager
def _carried_out_before(is_repeated: bool) -> Iterator[None]:
    """A word that is repeated and finds its delivery gone was carried out, and whoever did it was not told.

    Nothing is reaped right after an outage, so that hardly anybody else has taken it.
    """
    try:
        yield
    except StaleDelivery:
        if not is_repeated:
            raise


def _parsed(delivery_ids: Sequence[str]) -> tuple[list[DeliveryId], list[str]]:
    """Delivery ids taken apart, and those that never were any."""
    good, stale = [], []
    for delivery_id in delivery_ids:
        try:
            good.append(DeliveryId.parse(delivery_id))
        except StaleDelivery:
            stale.append(delivery_id)
    return good, stale
