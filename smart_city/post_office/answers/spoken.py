"""Agents' words on their way: whoever says one is told what became of it, or after a while that it is held.

A word that is held is carried out to its end, whether its socket stays or not. What a word does, and that it is done
again when the store comes back, is the work that it brings.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from foundations.errors import Unavailable
from foundations.supervision import Tasks
from smart_city.post_office.keep import Held, Keep
from smart_city.post_office.rounds import resolve

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0

Outcome = Exception | None
Then = Callable[[Outcome | Held], None]
Work = Coroutine[Any, Any, None]


@dataclass(slots=True, eq=False)
class _Word:
    """One word without its outcome."""

    then: Then
    size: int
    task: asyncio.Task[Outcome]
    timer: asyncio.TimerHandle = field(init=False)
    is_held: bool = False
    refusal: Unavailable | None = None


class Spoken:
    """The words of the agents here that are not carried out yet."""

    def __init__(self, tasks: Tasks, keep: Keep) -> None:
        self._tasks = tasks
        self._keep = keep
        self._words: set[_Word] = set()
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    @property
    def held(self) -> int:
        """How many are held."""
        return sum(word.is_held for word in self._words)

    def say(self, work: Work, size: int, then: Then) -> None:
        """Carries out a word that keeps ``size`` bytes; ``then`` hears the outcome, and before it perhaps `Held`."""
        try:
            task = self._tasks.spawn("an agent's word", _outcome(work))
        except RuntimeError:  # the tasks' owner has closed them
            work.close()
            return then(_closing())
        word = _Word(then, size, task)
        word.timer = asyncio.get_running_loop().call_later(self._keep.after, self._hold, word)
        self._words.add(word)
        self._is_idle.clear()
        task.add_done_callback(partial(self._ended, word))
        return None

    async def say_or_hold(self, work: Work, size: int) -> Held | None:
        """Carries out a word, or tells that it is held; raises what it raises."""
        told: asyncio.Future[Held | None] = asyncio.get_running_loop().create_future()
        self.say(work, size, partial(resolve, told))
        return await told

    async def insist(self, step: Callable[[bool], Awaitable[None]]) -> None:
        """Takes a step, again and again while the store is away; it hears whether it may have been taken before.

        Raises:
            Unavailable: it was away for as long as anything is held.
        """
        clock = asyncio.get_running_loop().time
        ends_at, pause, is_repeated = clock() + self._keep.seconds, FIRST_PAUSE, False
        while True:
            try:
                return await step(is_repeated)
            except Unavailable:
                if clock() >= ends_at:
                    raise
            is_repeated = True
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  # spreads them, keeps no secret
            pause = min(2 * pause, LONGEST_PAUSE)

    async def idle(self, timeout: float) -> int:  # noqa: ASYNC109  # nothing is raised
        """Waits until every word is carried out, at most ``timeout`` seconds; returns how many are not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._is_idle.wait()
        return len(self._words)

    def _hold(self, word: _Word) -> None:
        if self._keep.take(word.size):
            word.is_held = True
            word.then(Held())
        else:
            word.refusal = self._keep.full()
            word.task.cancel()

    def _ended(self, word: _Word, task: asyncio.Task[Outcome]) -> None:
        word.timer.cancel()
        self._words.discard(word)
        if not self._words:
            self._is_idle.set()
        if word.is_held:
            self._keep.release(word.size)
        word.then((word.refusal or _closing()) if task.cancelled() else task.result())


async def _outcome(work: Work) -> Outcome:
    try:
        await work
    except Exception as error:  # told to whoever said it
        return error
    return None


def _closing() -> Unavailable:
    return Unavailable("this instance is shutting down", retry_after=1)
