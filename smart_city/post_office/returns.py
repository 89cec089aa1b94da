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
from smart_city.post_office import answer_frames as frames
from smart_city.post_office.answer_frames import About, Failure
from smart_city.post_office.askers import Askers, Told, error_key, final_key, start_key
from smart_city.post_office.envelopes import new_message_id
from smart_city.post_office.inbox import Inbox
from smart_city.post_office.open_answers import OpenAnswers, Part
from smart_city.post_office.questions import DeliveryId, Reclaimed, Route, Standing, handed_on

_log = logging.getLogger(__name__)

FAILURES = {
    "lapsed": Failure("unavailable", "the agent went silent"),
    "closed": Failure("unavailable", "the agent went away"),
    "expired": Failure("deadline_exceeded", "no agent took the question in time"),
    "hops": Failure("unavailable", "the agents handed the question on too often"),
    "too_large": Failure("too_large", "the answer became too long"),
    "forwarded": Failure("unavailable", "the agent handed the question on"),
    "superseded": Failure("conflict", "an earlier attempt had answered already"),
}
GAVE_UP = Failure("internal", "the agent could not answer")
"""What an asker hears when an agent gives up. Its own reason is for operators, in the dead letter."""


class _Broken(NamedTuple):
    """An attempt that ends without an answer; ``stream`` is the message id of one in parts that had begun."""

    delivery: DeliveryId
    route: Route
    agent: str
    stream: str
    why: str


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

    async def end(self, reclaimed: Reclaimed) -> None:
        """Ends one: it arrives elsewhere, proves answered, is tried again, or dies.

        Raises:
            CityError: a store did not answer; the delivery will be reaped again.
        """
        if reclaimed.to and await self._has_arrived(reclaimed):
            return await self._inbox.deliveries.conclude(reclaimed, is_done=True)
        is_answered = await self._askers.is_answered(reclaimed.route, reclaimed.delivery.message_id)
        is_dead = reclaimed.ending == "dead" and not is_answered
        broken = _Broken(
            reclaimed.delivery, reclaimed.route, reclaimed.agent, reclaimed.stream, reclaimed.why
        )
        if reclaimed.stream:
            await self._end_stream(broken, is_answered=is_answered, is_dead=is_dead)
        elif is_dead:
            await self._say(broken, new_message_id(), final_key(broken.delivery.message_id))
        self._counters.dead_letters += is_dead
        return await self._inbox.deliveries.conclude(reclaimed, is_done=is_answered)

    async def break_off(self, standing: Standing, why: str, *, is_answered: bool = False) -> None:
        """Ends an open answer whose question is answered elsewhere, or was."""
        broken = _Broken(standing.delivery, standing.route, standing.agent, standing.stream, why)
        await self._end_stream(broken, is_answered=is_answered, is_dead=False)

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

    async def _end_stream(self, broken: _Broken, *, is_answered: bool, is_dead: bool) -> None:
        final = final_key(broken.delivery.message_id)
        log = broken.route.channel or await self._askers.log_with(broken.route, start_key(broken.delivery))
        if not log:  # its start never reached the asker
            if is_dead:
                await self._say(broken, new_message_id(), final)
            return
        text = await self._open_answers.close(log, broken.stream, Part(0))
        if is_answered:
            await self._supersede(broken)
        elif is_dead:
            await self._say(broken, broken.stream, final, text=text)
        elif not broken.route.channel:
            await self._say(broken, broken.stream, error_key(broken.delivery), retrying=True)
        await self._open_answers.forget(log, broken.stream)

    async def _supersede(self, broken: _Broken) -> None:
        """Ends an open answer to a question that has its final word already, unless that is this one's end.

        The log is asked for the final word by saying one: it tells under which id the first one stands.
        """
        late = broken._replace(why="superseded")
        final = await self._say(late, late.stream, final_key(late.delivery.message_id))
        if final is not None and final.message_id != late.stream and not late.route.channel:
            await self._say(late, late.stream, error_key(late.delivery))

    async def _say(
        self, broken: _Broken, message_id: str, key: str, *, text: bytes | None = None, retrying: bool = False
    ) -> Told | None:
        """Tells the asker that this attempt failed, with the text so far if it is all that will come."""
        delivery, route = broken.delivery, broken.route
        about = About(delivery.channel, broken.agent, delivery.message_id, route.conversation_id)
        failure = FAILURES.get(broken.why, GAVE_UP)
        encode: Callable[[str], bytes]
        if route.channel:
            payload = frames.failure_payload(failure)
            encode = partial(frames.message, about, message_id=message_id, payload=payload)
        else:
            payload = frames.with_text(frames.EMPTY, frames.unescaped(text)) if text else frames.EMPTY
            encode = partial(
                frames.error,
                about,
                message_id=message_id,
                failure=failure,
                payload=payload,
                retrying=retrying,
            )
        return await self._askers.tell(route, encode, message_id, key)
