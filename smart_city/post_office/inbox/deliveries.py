"""Deliveries after they were taken: what their holders say of them, and taking them back from holders.

A reclaimed delivery is held by this instance as reaper until it is concluded, so that the asker's log can be
told in between; what it is told is `returns`' work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from foundations.errors import CityError, StaleDelivery
from foundations.supervision import Tasks
from smart_city.post_office.inbox.calls import InboxScripts, groups_of, milliseconds
from smart_city.post_office.inbox.questions import (
    DeliveryId,
    Ending,
    InboxLimits,
    Reclaimed,
    Route,
    Standing,
    UnheardTake,
)
from smart_city.post_office.rounds import Rounds, resolve

_route = msgspec.json.Decoder(Route)

RECLAIMED_AT_ONCE = 128
STOPPED = 2
"""What `conclude` answers of a question that was stopped meanwhile."""

How = Literal["try", "dead", "free"]
"""How a reclaimed delivery ends: as a failed try, the last one of which is its death; dead; as no try."""
_Answer = asyncio.Future[list[Any]]


class Settled(NamedTuple):
    """What could not be settled: deliveries with an open answer, and those that are stale."""

    open: Sequence[Standing]
    stale: Sequence[DeliveryId]


class _Word(NamedTuple):
    """One thing that a holder says of a delivery, and who waits for the answer."""

    verb: str
    delivery: DeliveryId
    first: str | int
    second: str
    answer: _Answer


class Deliveries:
    """The taken deliveries of the inboxes ``channels``; ``reaper`` holds what this instance reclaims."""

    def __init__(
        self,
        scripts: InboxScripts,
        tasks: Tasks,
        limits: InboxLimits,
        *,
        channels: Iterable[str],
        reaper: str,
    ) -> None:
        self._scripts = scripts
        self._limits = limits
        self._reaper = reaper
        self._words = {channel: self._rounds(channel, tasks) for channel in channels}

    # What holders say

    async def check(self, delivery: DeliveryId) -> Standing:
        """What is known of a delivery about to be answered, which stays good for the time that takes.

        Raises:
            StaleDelivery: its lease lapsed, or it was settled.
        """
        return _standing(delivery, await self._say("check", delivery))

    async def open(self, delivery: DeliveryId, stream: str, agent: str) -> Standing:
        """Notes that an answer in parts begins under the message id ``stream``, unless one is open."""
        return _standing(delivery, await self._say("open", delivery, stream, agent))

    async def extend(self, delivery: DeliveryId, lease_seconds: float | None = None) -> None:
        """More time for a delivery; it never shortens what it has.

        Raises:
            StaleDelivery: its lease lapsed, or it was settled.
        """
        lease = self._limits.lease_seconds if lease_seconds is None else lease_seconds
        await self._say("extend", delivery, milliseconds(lease))

    async def done(self, deliveries: Sequence[DeliveryId]) -> Settled:
        """Settles deliveries, except those with an open answer and those that are stale, which it returns."""
        words = [self._word("done", delivery) for delivery in deliveries]
        answers = await asyncio.gather(*words)
        told = list(zip(deliveries, answers, strict=True))
        return Settled(
            open=[_standing(delivery, answer) for delivery, answer in told if answer[0] == b"open"],
            stale=[delivery for delivery, answer in told if answer[0] == b"stale"],
        )

    async def close(self, delivery: DeliveryId) -> None:
        """Settles a delivery that is answered in the log, or arrived elsewhere; a stale one is settled."""
        await self._word("close", delivery)

    async def leave(self, delivery: DeliveryId, channel: str) -> Standing:
        """Notes that a delivery goes to another inbox, which whoever reclaims it will finish."""
        return _standing(delivery, await self._say("leave", delivery, channel))

    async def stay(self, delivery: DeliveryId) -> None:
        """Notes that it did not go."""
        await self._word("stay", delivery)

    # Taking back

    async def lapsed(self, channel: str) -> Sequence[Reclaimed]:
        """Takes back what leases lapsed for, and what nobody took within the age."""
        return await self._reclaim(channel, "lapsed", "-", "try", "lapsed")

    async def lost(self, channel: str, instance_id: str) -> Sequence[Reclaimed]:
        """Takes back what the consumers of an instance have that is gone."""
        return await self._reclaim(channel, "instance", instance_id, "try", "lost")

    async def hand_back(self, channel: str, holder: str, *, counts: bool = True) -> Sequence[Reclaimed]:
        """Takes back what one consumer has; with ``counts`` false it was no try."""
        return await self._reclaim(channel, "holder", holder, "try" if counts else "free", "closed")

    async def unheard(self, channel: str, take: UnheardTake) -> Sequence[Reclaimed]:
        """Takes back what a take brought that got no answer, and makes it void if it is yet to be carried out."""
        subject = f"{take.taker} {take.number}"
        return await self._reclaim(channel, "take", subject, "free", "unheard", take.holders)

    async def stop(self, channel: str, message_id: str, user: str) -> Reclaimed | str:
        """Takes back a question of ``user``, who wants no answer, whoever has it; its holder hears so.

        Returns a word when there is nothing to end: `stopped` (somebody ends it so), `finished` (it dies already),
        `leaving` (it is on its way to another inbox), or nothing (it is not here).
        """
        flat = await self._run_reclaim(channel, "stop", f"{message_id} {user}", "dead", "stopped")
        if len(flat) > 1:
            return _reclaimed(channel, *flat)
        return flat[0].decode() if flat else ""

    async def take_back(self, delivery: DeliveryId, why: str, how: How) -> Reclaimed:
        """Takes back a single delivery.

        Raises:
            StaleDelivery: its lease lapsed, or it was settled.
        """
        subject = f"{delivery.message_id} {delivery.serial}"
        found = await self._reclaim(delivery.channel, "one", subject, how, why)
        if not found:
            raise _stale(delivery)
        return found[0]

    async def _reclaim(
        self, channel: str, mode: str, subject: str, how: How, why: str, holders: Iterable[str] = ()
    ) -> Sequence[Reclaimed]:
        flat = await self._run_reclaim(channel, mode, subject, how, why, holders)
        return [_reclaimed(channel, *fields) for fields in groups_of(13, flat)]

    async def _run_reclaim(
        self, channel: str, mode: str, subject: str, how: How, why: str, holders: Iterable[str] = ()
    ) -> Sequence[Any]:
        limits = self._limits
        flat: Sequence[Any] = await self._scripts.run(
            "reclaim", channel, mode, subject, self._reaper, milliseconds(limits.reclaim_seconds),
            limits.tries, milliseconds(limits.age_seconds), RECLAIMED_AT_ONCE, how, why, *holders,
        )  # fmt: skip
        return flat

    async def conclude(self, reclaimed: Reclaimed, *, is_done: bool = False) -> bool:
        """Ends what was reclaimed: again later, dead, or done; unless another reaper has it by now.

        Returns false if its asker has stopped it meanwhile: it will end so, as soon as the asker was told.
        """
        limits = self._limits
        concluded = await self._scripts.run(
            "conclude", reclaimed.delivery.channel, self._reaper, milliseconds(limits.first_wait_seconds),
            milliseconds(limits.longest_wait_seconds), limits.dead_count, limits.dead_bytes,
            milliseconds(limits.other_taker_seconds), reclaimed.delivery.message_id, reclaimed.delivery.serial,
            "done" if is_done else "",
        )  # fmt: skip
        return bool(concluded != STOPPED)

    # Within

    def _word(self, verb: str, delivery: DeliveryId, first: str | int = "", second: str = "") -> _Answer:
        answer: _Answer = asyncio.get_running_loop().create_future()
        rounds = self._words.get(delivery.channel)
        if rounds is None:
            answer.set_result([b"stale"])
        else:
            rounds.add(_Word(verb, delivery, first, second, answer))
        return answer

    async def _say(self, verb: str, delivery: DeliveryId, first: str | int = "", second: str = "") -> list[Any]:
        answer = await self._word(verb, delivery, first, second)
        if answer[0] == b"stale":
            raise _stale(delivery)
        return answer

    def _rounds(self, channel: str, tasks: Tasks) -> Rounds[_Word, list[Any]]:
        async def send(words: Sequence[_Word]) -> Sequence[list[Any]]:
            args: list[Any] = [milliseconds(self._limits.answer_seconds)]
            for word in words:
                args += (word.verb, word.delivery.message_id, word.delivery.serial, word.first, word.second)
            answers: Sequence[list[Any]] = await self._scripts.run("settle", channel, *args)
            return answers

        def tell(word: _Word, answer: list[Any] | CityError) -> None:
            resolve(word.answer, answer)

        return Rounds(f"deliveries of {channel}", tasks, send, tell)


def _stale(delivery: DeliveryId) -> StaleDelivery:
    return StaleDelivery(f"the delivery {delivery} is not good any more: its lease lapsed, or it was settled")


def _standing(delivery: DeliveryId, answer: Sequence[Any]) -> Standing:
    _, route, stream, agent, hops, lane, user, body = answer
    return Standing(
        delivery=delivery, route=_route.decode(route), stream=stream.decode(), agent=agent.decode(),
        hops=int(hops), lane=lane.decode(), user=user.decode(), body=body,
    )  # fmt: skip


def _reclaimed(channel: str, message_id: bytes, serial: bytes, attempt: int, *rest: bytes) -> Reclaimed:
    ending, why, route, stream, agent, hops, to, lane, user, body = rest
    return Reclaimed(
        delivery=DeliveryId(channel, message_id.decode(), int(serial)), attempt=attempt,
        ending=msgspec.convert(ending.decode(), Ending), why=why.decode(), route=_route.decode(route),
        stream=stream.decode(), agent=agent.decode(), hops=int(hops), to=to.decode(), lane=lane.decode(),
        user=user.decode(), body=body,
    )  # fmt: skip
