"""One append call on its way: sent at once, and asked again while there is patience, until it has an answer or none.

What a call carries, in which order calls go, and what its answer means to whom, is the writer's matter.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from foundations.errors import CityError, Internal, Unavailable
from foundations.supervision import Tasks
from foundations.valkey import NotCopied, Valkey
from smart_city.post_office.log.calls import Answer, AppendCall, log_script, read_answers
from smart_city.post_office.log.patience import Patience
from smart_city.post_office.log.unanswered import Result

_log = logging.getLogger(__name__)

BRISKLY = 0.1
"""While one call of a slot is held, others wait for their answer for this part of the time: its node is away."""


class Sending:
    """Sends the calls of one writer. ``on_answer`` hears of each its answers or an error, or ``on_silence`` of none.

    An answer comes without a task or a timer of its own, which is a third of what a lone append costs here
    (`publishing`, one caller); where anything is the matter, a task asks again, as the call's sequence allows.
    """

    def __init__(
        self,
        valkey: Valkey,
        tasks: Tasks,
        patience: Patience,
        *,
        on_answer: Callable[[AppendCall, Result], None],
        on_silence: Callable[[AppendCall], None],
    ) -> None:
        self._valkey = valkey.acknowledged
        self._tasks = tasks
        self._patience = patience
        waits_for_replicas = valkey.acknowledged is not valkey  # which tell late that all is in the log
        self._brisk_patience = replace(patience, seconds=patience.seconds * (1 if waits_for_replicas else BRISKLY))
        self._on_answer = on_answer
        self._on_silence = on_silence
        self._script = log_script("append")

    def send(self, call: AppendCall, *, briskly: bool) -> None:
        """Sends a call; ``briskly`` where there is little hope."""
        patience, began = self._brisk_patience if briskly else self._patience, asyncio.get_running_loop().time()
        if briskly or not self._has_begun(call, patience, began):
            self._pursue(call, patience, began)

    async def ask(self, call: AppendCall) -> Sequence[Answer]:
        """The answers to a call, sent once more.

        Raises:
            CityError: there are none, or nothing could be done.
        """
        try:
            return read_answers(await self._valkey.run(self._script, call.keys, call.arguments()))
        except NotCopied:
            call.note_logged()
            raise

    def _has_begun(self, call: AppendCall, patience: Patience, began: float) -> bool:
        then = partial(self._replied, call, patience, began)
        try:
            return self._valkey.begin(self._script, call.keys, call.arguments(), then, seconds=patience.seconds)
        except Exception:
            return False  # a defect: the task that tries it again is supervised, and logs it

    def _replied(self, call: AppendCall, patience: Patience, began: float, reply: Any) -> None:
        if isinstance(reply, Exception):
            if isinstance(reply, NotCopied):
                call.note_logged()
            self._pursue(call, patience, began, is_repeated=isinstance(reply, Unavailable))
            return
        try:
            answers = read_answers(reply)
        except Exception:  # a call is supervised here: its senders must not wait for ever
            _log.exception("an append failed")
            self._on_answer(call, _defect())
        else:
            self._on_answer(call, answers)

    def _pursue(self, call: AppendCall, patience: Patience, began: float, *, is_repeated: bool = False) -> None:
        """Asks again, in a task."""
        try:
            task = self._tasks.spawn("append", self._asked(call, patience, began, is_repeated=is_repeated))
        except RuntimeError:  # the tasks' owner has closed them: nothing is sent any more
            asyncio.get_running_loop().call_soon(self._on_answer, call, _closing())
        else:
            task.add_done_callback(partial(self._ended, call))

    async def _asked(self, call: AppendCall, patience: Patience, began: float, *, is_repeated: bool) -> Result | None:
        try:
            return await patience.until_answered(lambda: self.ask(call), is_repeated=is_repeated, since=began)
        except Unavailable:
            return None
        except CityError as error:
            return error

    def _ended(self, call: AppendCall, task: asyncio.Task[Result | None]) -> None:
        """Tells how the asking ended; also of a task that was cancelled, or failed, which its owner has logged."""
        if task.cancelled():
            self._on_answer(call, _closing())
        elif task.exception() is not None:
            self._on_answer(call, _defect())
        elif (result := task.result()) is None:
            self._on_silence(call)
        else:
            self._on_answer(call, result)


def _closing() -> Unavailable:
    return Unavailable("this instance is shutting down", retry_after=1)


def _defect() -> Internal:
    return Internal("the publication could not be logged")
