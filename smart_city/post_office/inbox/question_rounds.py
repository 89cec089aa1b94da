"""Questions on their way into an inbox: what one turn of the loop brings is one round, and what was said of each.

A round may be sent as often as need be and is carried out once. Whether a question comes in is decided by the script.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from foundations.errors import CityError, Conflict, Overloaded, Unavailable
from foundations.valkey.client import Argument
from smart_city.post_office.inbox.calls import InboxScripts, groups_of, milliseconds
from smart_city.post_office.inbox.questions import InboxLimits, Question, Queued
from smart_city.post_office.keep import Held

_encode = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode

RETRY_AFTER = 2.0

Told = Queued | CityError
Then = Callable[[Told | Held], None]


class Asked(Struct, eq=False, gc=False):
    """A question, and who hears what becomes of it. One that was acknowledged as held is refused by no circuit."""

    question: Question
    then: Then
    is_held: bool = False

    def tell(self, told: Told | Held) -> None:
        """Passes on what became of it."""
        if isinstance(told, Held):
            self.is_held = True
            told = Held(self.question.message_id)
        self.then(told)


class QuestionRound:
    """One round of one writer, whose rounds have sequence numbers by which the script knows them again."""

    def __init__(
        self, scripts: InboxScripts, limits: InboxLimits, channel: str, round_: Sequence[Asked], writer: str,
        sequence: Iterator[int],
    ) -> None:  # fmt: skip
        self._scripts = scripts
        self._limits = limits
        self._channel = channel
        self._round = round_
        self._writer = writer
        self._sequence = sequence
        self._number = next(sequence)
        self.queued = 0
        """How many came in that were not there before."""
        self._refused: dict[int, bytes] | None = None
        self._again = 0

    async def send(self) -> Sequence[Told]:
        """Sends it and says what became of each question.

        Raises:
            Unavailable: no answer; it is to be sent again.
        """
        if self._refused is None:
            self._refused = await self._enqueue(self._round, self._number)
        refused = dict(self._refused)
        if kept_out := [at for at, word in refused.items() if word[:1] == b"o" and self._round[at].is_held]:
            self._again = self._again or next(self._sequence)
            still = await self._enqueue([self._round[at] for at in kept_out], self._again)
            for place, at in enumerate(kept_out):
                del refused[at]
                if place in still:
                    refused[at] = still[place]
        self.queued = len(self._round) - len(refused)
        told: list[Told] = [Queued(asked.question.message_id) for asked in self._round]
        for at, word in refused.items():
            told[at] = self._told(self._round[at].question, word)
        return told

    async def _enqueue(self, round_: Sequence[Asked], number: int) -> dict[int, bytes]:
        """Sends some of the questions; returns a word for the place of each that did not come in."""
        limits = self._limits
        args: list[Argument] = [self._writer, number, limits.count, limits.bytes, milliseconds(limits.key_seconds)]
        args += (int(any(asked.is_held for asked in round_)), str(limits.user_share))
        questions: list[str] = []  # the store's MessagePack knows no bytes
        route, told = None, ""  # of a client's questions one after the other it is the same
        for asked in round_:
            q = asked.question
            if q.route is not route:
                route, told = q.route, _encode(q.route).decode()
            questions += (q.message_id, q.lane, q.user, told, _marks(q), q.body.decode())
        flat: Sequence[Any] | None = await self._scripts.run("enqueue", self._channel, *args, _pack(questions))
        if flat is None:
            raise Unavailable("a later round of questions came before this one, which may have come in")
        return dict(groups_of(2, flat))

    def _told(self, question: Question, word: bytes) -> Told:
        channel = question.channel
        match word[:1]:
            case b"d":
                return Queued(word[1:].decode(), duplicate=True)
            case b"c":
                return Conflict("this key was used before with another message")
            case b"s":
                return Overloaded(f"your share of the inbox {channel} is full", retry_after=RETRY_AFTER)
            case b"o":
                text = f"the inbox {channel} takes no questions for now; come back when retry_after is over"
                return Overloaded(text, retry_after=int(word[1:]) / 1000)
            case _:
                return Overloaded(f"the inbox {channel} is full", retry_after=self._limits.circuit_cool_seconds)


def _marks(question: Question) -> str:
    """What few questions have, in one value: each one costs both sides time (6 for 9 save a tenth of the script)."""
    q = question
    return f"{q.hops} {q.serial} {q.digest} {q.key}" if q.key or q.hops or q.serial else ""
