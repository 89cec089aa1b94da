"""The agents' inboxes in Valkey: questions go in, lanes are served in order and round robin, within bounds.

Every decision is made by a script, in the store's clock, so that all instances agree. What becomes of a
question once it was taken is `deliveries`' work, and who takes here is `dispatch`'s.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from foundations.errors import Unavailable, UnknownChannel
from foundations.supervision import Tasks
from foundations.valkey.client import Valkey
from smart_city.post_office.inbox.calls import InboxScripts, groups_of, milliseconds
from smart_city.post_office.inbox.deliveries import Deliveries
from smart_city.post_office.inbox.letters import DeadLetters
from smart_city.post_office.inbox.question_rounds import Asked, QuestionRound, Then, Told
from smart_city.post_office.inbox.questions import (
    Circuit,
    Delivery,
    DeliveryId,
    Holder,
    InboxLimits,
    InboxStatus,
    Question,
    Queued,
    Route,
    UnheardTake,
)
from smart_city.post_office.keep import Held, Keep
from smart_city.post_office.kept_rounds import Attempt, KeptRounds
from smart_city.post_office.rounds import resolve

_route = msgspec.json.Decoder(Route)

TAKEN_BYTES = 1024 * 1024


class Taken(NamedTuple):
    """What a take brought: deliveries, each with the place of its holder among those named.

    ``has_more``: another take would find something at once; else something is due in ``due_in`` seconds.
    ``is_left``: there is more, which consumers of other instances may take first.
    """

    deliveries: Sequence[tuple[int, Delivery]]
    has_more: bool
    due_in: float | None
    is_left: bool


class CircuitChange(NamedTuple):
    """What became of the circuit of an inbox; ``why`` it is not closed: `full` or `failing`."""

    state: Circuit
    why: str


class Inbox:
    """The inboxes of the agent channels ``channels``, as one instance uses them."""

    def __init__(
        self, valkey: Valkey, tasks: Tasks, limits: InboxLimits, *, channels: Iterable[str], instance_id: str,
        keep: Keep | None = None,
    ) -> None:  # fmt: skip
        self.limits = limits
        self.channels = tuple(channels)
        self.listeners: list[Callable[[str, int], None]] = []
        """Told of each round: the channel, and how many questions this instance has queued in it."""
        self._writer = secrets.token_hex(8)
        self._scripts = InboxScripts(valkey, limits, self.channels)
        self.letters = DeadLetters(self._scripts, limits)
        self.deliveries = Deliveries(
            self._scripts, tasks, limits,
            channels=self.channels, reaper=f"{instance_id}|reaper/{self._writer}",
        )  # fmt: skip
        self._sequence = itertools.count(1)
        kept = keep or Keep()
        self._rounds = {channel: self._rounds_of(channel, tasks, kept) for channel in self.channels}

    def send(self, question: Question, then: Then) -> None:
        """Queues a question with the others of this turn; ``then`` hears the outcome exactly once.

        That is `Queued`, or `Overloaded` (the inbox or the user's share of it is full), `Conflict` (the key
        was used with another body), `UnknownChannel`, or `Unavailable` (no room to hold it, or it was held for too
        long: it may be in the inbox all the same). While Valkey is away it hears `Held` before that.
        """
        rounds = self._rounds.get(question.channel)
        if rounds is None:
            return then(UnknownChannel(f"there is no inbox {question.channel!r}"))
        return rounds.add(Asked(question, then), len(question.body), question.user)

    async def send_now(self, question: Question) -> Queued:
        """Queues a question and waits until that is done, also while it is held; raises what `send` tells."""
        answer: asyncio.Future[Queued] = asyncio.get_running_loop().create_future()

        def then(told: Told | Held) -> None:
            if not isinstance(told, Held):
                resolve(answer, told)

        self.send(question, then)
        return await answer

    async def send_or_hold(self, question: Question) -> Queued | Held:
        """Queues a question; while Valkey is away, it is told that it is held. Raises what `send` tells."""
        answer: asyncio.Future[Queued | Held] = asyncio.get_running_loop().create_future()
        self.send(question, partial(resolve, answer))
        return await answer

    async def flush(self, timeout: float) -> int:  # noqa: ASYNC109  # nothing is raised
        """Waits until every question is in, at most ``timeout`` seconds; returns how many are not."""
        return sum(await asyncio.gather(*(rounds.idle(timeout) for rounds in self._rounds.values())))

    async def take(
        self, channel: str, holders: Sequence[Holder], *, is_eager: bool = False, consumers: int = 1
    ) -> Taken:
        """Messages for ``holders``, one for each in turn while it has room, as far as there are any.

        Of what is ready they get the share of this instance, which has so many ``consumers`` of all that there are, or
        if ``is_eager`` everything.

        Raises:
            UnheardTake: no answer. `Deliveries.unheard` brings back what was taken, else its leases lapse.
        """
        number = next(self._sequence)
        args = [word for name, lease, room in holders for word in (name, milliseconds(lease), room)]
        try:
            more, due, *flat = await self._scripts.run(
                "take", channel, self._writer, number, TAKEN_BYTES, int(is_eager), consumers, *args
            )
        except Unavailable as error:
            names = frozenset(holder.name for holder in holders)
            raise UnheardTake(error.message, taker=self._writer, number=number, holders=names) from error
        deliveries = [
            (place, _delivery(channel, message_id, serial, attempt, route, body))
            for message_id, serial, attempt, place, route, body in groups_of(6, flat)
        ]
        return Taken(deliveries, more == 1, None if due < 0 else due / 1000, more == 2)

    async def count_consumers(
        self, channel: str, instance_id: str, consumers: int, seconds: float
    ) -> CircuitChange | None:
        """Notes for ``seconds`` how many consumers an instance has.

        Returns a change of the circuit that no instance was told of before.
        """
        changed = await self._scripts.run(
            "consumers", channel, instance_id, consumers, milliseconds(seconds), self.limits.count, self.limits.bytes
        )
        return CircuitChange(*(word.decode() for word in changed)) if changed else None

    async def due(self) -> Sequence[str]:
        """The channels whose inboxes are to be looked after: leases lapsed, messages grew old, or a circuit changed."""
        return await self._scripts.due()

    async def status(self, channel: str) -> InboxStatus:
        """How an inbox stands."""
        depth, size, dead, consumers, oldest, circuit = await self._scripts.run(
            "status", channel, self.limits.count, self.limits.bytes
        )
        return InboxStatus(
            depth=depth, capacity=self.limits.count, bytes=size, dead_letters=dead, consumers=consumers,
            oldest_age_seconds=None if oldest < 0 else oldest / 1000, circuit=circuit.decode(),
        )  # fmt: skip

    def _rounds_of(self, channel: str, tasks: Tasks, keep: Keep) -> KeptRounds[Asked, Told]:
        def prepare(items: Sequence[Asked]) -> Attempt[Told]:
            round_ = QuestionRound(self._scripts, self.limits, channel, items, self._writer, self._sequence)

            async def attempt() -> Sequence[Told]:
                told = await round_.send()
                for listener in self.listeners:
                    listener(channel, round_.queued)
                return told

            return attempt

        return KeptRounds(f"questions to {channel}", tasks, prepare, Asked.tell, keep)


def _delivery(channel: str, message_id: bytes, serial: int, attempt: int, route: bytes, body: bytes) -> Delivery:
    delivery = DeliveryId(channel, message_id.decode(), serial)
    return Delivery(
        delivery_id=str(delivery), channel=channel, message_id=delivery.message_id, attempt=attempt,
        body=body, route=_route.decode(route),
    )  # fmt: skip
