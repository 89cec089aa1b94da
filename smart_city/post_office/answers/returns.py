"""What came back unanswered: the asker's log hears of it first, then the inbox ends the delivery.

Every start gets exactly one end or error, and every dead question a last word. Each step may be repeated: a
reaper that dies in between is followed by another one, and the log knows what it was told before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

from foundations.errors import CityError, Conflict, Overloaded, UnknownChannel
from foundations.telemetry import Counters
from smart_city.post_office.answers import frames
from smart_city.post_office.answers.askers import (
    Askers,
    FinalWord,
    Told,
    about_delivery,
    error_key,
    final_key,
    last_error_id,
    start_key,
)
from smart_city.post_office.answers.frames import Failure
from smart_city.post_office.answers.open_answers import Ended, OpenAnswers
from smart_city.post_office.envelopes import new_message_id
from smart_city.post_office.inbox import Inbox
from smart_city.post_office.inbox.questions import DeliveryId, Reclaimed, Route, Standing, handed_on

_log = logging.getLogger(__name__)

FAILURES = {
    "lapsed": Failure("unavailable", "the agent went silent"),
    "closed": Failure("unavailable", "the agent went away"),
    "lost": Failure("unavailable", "the agent went away"),
    "stopped": Failure("stopped", "the asker wanted no answer any more"),
    "expired": Failure("deadline_exceeded", "no agent took the question in time"),
    "hops": Failure("unavailable", "the agents handed the question on too often"),
    "too_large": Failure("too_large", "the answer became too long"),
    "forwarded": Failure("unavailable", "the agent handed the question on"),
    "superseded": Failure("conflict", "an earlier attempt had answered already"),
}
GAVE_UP = Failure("internal", "the agent could not answer")
"""What an asker hears when an agent gives up. Its own reason is for operators, in the dead letter."""


class _Attempt(NamedTuple):
    """An attempt that ends; ``stream`` is the message id of the answer in parts that it had begun."""

    delivery: DeliveryId
    route: Route
    agent: str
    stream: str
    why: str

    @classmethod
    def of(cls, what: Standing | Reclaimed, why: str) -> _Attempt:
        return cls(what.delivery, what.route, what.agent, what.stream, why)

    @property
    def last_error_id(self) -> str:
        """Under which id it dies, unless it had begun an answer in parts."""
        return last_error_id(self.delivery.message_id, self.route.life)


class Returns:
    """Ends deliveries that were reclaimed, whoever had them."""

    def __init__(self, askers: Askers, inbox: Inbox, open_answers: OpenAnswers, counters: Counters) -> None:
        self._askers = askers
        self._inbox = inbox
        self._open_answers = open_answers
        self._counters = counters

    async def end_all(self, reclaimed: Iterable[Reclaimed]) -> None:
        """Ends each; what cannot be ended now will be reaped again."""
        await asyncio.gather(*[self._end_or_leave(each) for each in reclaimed])

    async def end(self, reclaimed: Reclaimed) -> bool:
        """Ends one: it arrives elsewhere, proves answered, is tried again, or dies; returns whether it is answered.

        Raises:
            CityError: a store did not answer; the delivery will be reaped again.
        """
        attempt = _Attempt.of(reclaimed, reclaimed.why)
        if reclaimed.to:
            is_answered = bool(reclaimed.stream) and await self.break_off(reclaimed)
            if is_answered or await self._has_arrived(reclaimed):
                await self._inbox.deliveries.conclude(reclaimed, is_done=True)
                return is_answered
            attempt = attempt._replace(stream="")
        is_dying = reclaimed.ending == "dead"
        if attempt.stream:
            is_answered = await self._end_stream(attempt, is_dying=is_dying)
        else:
            is_answered = await self._end_unbegun(attempt, is_dying=is_dying)
        if not await self._inbox.deliveries.conclude(reclaimed, is_done=is_answered):
            await self._say_last(attempt._replace(why="stopped"), attempt.last_error_id)
            await self._inbox.deliveries.conclude(reclaimed)
        self._counters.dead_letters += is_dying and not is_answered and reclaimed.why != "stopped"
        return is_answered

    async def break_off(self, leaving: Standing | Reclaimed) -> bool:
        """Ends the open answer to a question that is handed on; returns whether it proves answered instead."""
        return await self._end_stream(_Attempt.of(leaving, "forwarded"), is_dying=False)

    async def say_end(self, standing: Standing, ended: Ended) -> None:
        """Says the final word that was decided for an open answer."""
        await self._say_end(_Attempt.of(standing, ""), ended)

    async def _end_or_leave(self, reclaimed: Reclaimed) -> None:
        try:
            await self.end(reclaimed)
        except CityError as error:
            _log.warning("%s cannot be ended yet, it will be reaped again: %s", reclaimed.delivery, error)

    async def _has_arrived(self, reclaimed: Reclaimed) -> bool:
        """Finishes a forward whose gateway died; an inbox that refuses leaves the question where it was."""
        try:
            await self._inbox.send_now(handed_on(reclaimed, reclaimed.to))
        except (Overloaded, Conflict, UnknownChannel):
            return False
        return True

    async def _end_stream(self, attempt: _Attempt, *, is_dying: bool) -> bool:
        """Ends an answer in parts as it was decided, or breaks it off; returns whether the question is answered.

        The log is asked for the final word after it was decided, since an end that is logged is decided no more.
        """
        log = attempt.route.channel or await self._log_of_start(attempt, is_dying=is_dying)
        if not log:
            return await self._end_unbegun(attempt, is_dying=False)
        outcome = await self._open_answers.fail(log, attempt.stream)
        if isinstance(outcome, Ended):
            await self._say_end(attempt, outcome)
            await self._open_answers.forget(log, attempt.stream)
            return True
        final = await self._final_word(attempt)
        if final == attempt.stream:
            return outcome is None  # else it breaks off, and this is its error: a reaper died that had said it
        if final or (is_dying and await self._say_last(attempt, attempt.stream, text=outcome or b"")):
            await self._break_off_superseded(attempt)
            return True
        if not is_dying and not attempt.route.channel:
            await self._say(attempt, attempt.stream, error_key(attempt.delivery), retrying=True)
        return False

    async def _end_unbegun(self, attempt: _Attempt, *, is_dying: bool) -> bool:
        """Says the last error if the question dies; returns whether it is answered.

        An error that a reaper said before it died is no answer: its id tells it.
        """
        final = await self._final_word(attempt)
        if final:
            return final != attempt.last_error_id
        return is_dying and await self._say_last(attempt, attempt.last_error_id)

    async def _final_word(self, attempt: _Attempt) -> str | None:
        return await self._askers.final_word(attempt.route, attempt.delivery.message_id)

    async def _log_of_start(self, attempt: _Attempt, *, is_dying: bool) -> str:
        """The log in which the answer has begun; nothing when it never will.

        A start may still be on its way. Who says something else under its key first prevents it.
        """
        key = start_key(attempt.delivery)
        if begun := await self._askers.told_under(attempt.route, key):
            return begun.log if begun.message_id == attempt.stream else ""
        told = await self._say(attempt, new_message_id(), key, retrying=not is_dying)
        return told.log if told is not None and told.message_id == attempt.stream else ""

    async def _say_end(self, attempt: _Attempt, ended: Ended) -> None:
        text, end = ended
        payload = frames.with_text(bytes(end.payload), frames.unescaped(text))
        word = FinalWord(
            attempt.delivery, attempt.route, end.agent, attempt.stream, payload, end.intent,
            is_end=not attempt.route.channel,
        )  # fmt: skip
        told = await self._askers.answer(word)
        self._counters.answers += 1
        if told is not None and told.message_id != attempt.stream:
            await self._break_off_superseded(attempt)

    async def _break_off_superseded(self, attempt: _Attempt) -> None:
        if not attempt.route.channel:
            late = attempt._replace(why="superseded")
            await self._say(late, late.stream, error_key(late.delivery))

    async def _say_last(self, attempt: _Attempt, message_id: str, *, text: bytes = b"") -> bool:
        """Says the final word, that there will be no answer; returns whether another one came before it."""
        key = final_key(attempt.delivery.message_id, attempt.route.life)
        told = await self._say(attempt, message_id, key, text=text)
        return told is not None and told.message_id != message_id

    async def _say(
        self, attempt: _Attempt, message_id: str, key: str, *, text: bytes = b"", retrying: bool = False
    ) -> Told | None:
        """Tells the asker that this attempt failed, with the text so far if it is all that will come."""
        about = about_delivery(attempt.delivery, attempt.route, attempt.agent)
        failure = FAILURES.get(attempt.why, GAVE_UP)
        encode: Callable[[str], bytes]
        if attempt.route.channel:
            payload = frames.failure_payload(failure)
            encode = partial(frames.message, about, message_id=message_id, payload=payload)
        else:
            payload = frames.with_text(frames.EMPTY, frames.unescaped(text)) if text else frames.EMPTY
            encode = partial(
                frames.error, about, message_id=message_id, failure=failure, payload=payload, retrying=retrying
            )
        return await self._askers.tell(attempt.route, encode, message_id, key)
