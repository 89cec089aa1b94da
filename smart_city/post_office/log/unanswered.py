"""Calls that Valkey has not answered in time: sent again, a few at once, until it does or they have waited too long.

Each carries its sequence, so that it is carried out once however often it is sent. What an answer means, and what
waits behind a call, is the writer's matter.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence

from foundations.errors import CityError, Internal, Overloaded, Unavailable
from foundations.supervision import Tasks
from smart_city.post_office.log.calls import Answer, AppendCall

_log = logging.getLogger(__name__)

AT_ONCE = 8
FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.25

Result = Sequence[Answer] | CityError


class Unanswered:
    """The calls of one writer that are asked again. ``conclude`` hears of each once, with its answers or an error.

    They take turns, so that a call whose server is away does not keep those of other servers waiting.
    """

    def __init__(
        self,
        tasks: Tasks,
        ask: Callable[[AppendCall], Awaitable[Sequence[Answer]]],
        conclude: Callable[[AppendCall, Result], None],
        *,
        seconds: float,
    ) -> None:
        self._tasks = tasks
        self._ask = ask
        self._conclude = conclude
        self._seconds = seconds
        self._calls: dict[int, tuple[AppendCall, float]] = {}
        self._turns: deque[int] = deque()
        self.of_slot: Counter[int] = Counter()
        """How many of each slot there are."""
        self._working = 0

    def add(self, call: AppendCall) -> None:
        """Takes a call over from whoever has sent it in vain."""
        self._calls[call.sequence] = call, asyncio.get_running_loop().time() + self._seconds
        self._turns.append(call.sequence)
        self.of_slot[call.slot] += 1
        if self._working < AT_ONCE:
            try:
                task = self._tasks.spawn("append again", self._work())
            except RuntimeError:  # the tasks' owner has closed them
                self._end_all()
            else:
                self._working += 1
                task.add_done_callback(self._ended)

    async def _work(self) -> None:
        try:
            await self._ask_in_turns()
        finally:
            self._working -= 1  # in the same breath as its last look: who comes from now on needs another

    async def _ask_in_turns(self) -> None:
        clock = asyncio.get_running_loop().time
        pause = FIRST_PAUSE
        while self._turns:
            sequence = self._turns.popleft()
            call, ends_at = self._calls[sequence]
            result = self._too_late() if clock() >= ends_at else await self._asked(call)
            if result is None:
                self._turns.append(sequence)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            pause = FIRST_PAUSE
            if self._calls.pop(sequence, None) is not None:
                self._end(call, result)

    async def _asked(self, call: AppendCall) -> Result | None:
        """What became of a call, if there is an answer now."""
        try:
            return await self._ask(call)
        except (Unavailable, Overloaded):  # a full store, too, does not say whether it carried the call out before
            return None
        except CityError as error:
            return error
        except Exception:  # a call is supervised here: its senders must not wait for ever
            _log.exception("an append failed")
            return Internal("the publication could not be logged")

    def _too_late(self) -> Unavailable:
        text = f"Valkey was away for {self._seconds:g} seconds; whether this is logged is not known"
        return Unavailable(text, retry_after=1)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self._end_all()

    def _end_all(self) -> None:
        """Nothing is sent any more: whoever waits is told."""
        left, self._calls = self._calls, {}
        self._turns.clear()
        for call, _ in left.values():
            self._end(call, Unavailable("this instance is shutting down", retry_after=1))

    def _end(self, call: AppendCall, result: Result) -> None:
        self.of_slot[call.slot] -= 1
        if not self.of_slot[call.slot]:
            del self.of_slot[call.slot]
        self._conclude(call, result)
