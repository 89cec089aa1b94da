"""One answer in parts while it is given here: deltas are gathered for a moment and told as one part.

It keeps the order of the text and sends a part again whose fate is unknown. Where the text so far is kept is
`open_answers`' work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from foundations.errors import CityError, Overloaded, StaleDelivery, TooLarge, Unavailable
from foundations.supervision import Tasks
from smart_city.post_office.answers import frames
from smart_city.post_office.answers.frames import About
from smart_city.post_office.answers.open_answers import End, Ended, OpenAnswers, Part
from smart_city.post_office.keep import Keep

WAITING_BYTES = 1024 * 1024
"""Of one answer, while Valkey does not take it."""


class Gathering:
    """The text of one answer on its way. All answers here tell their parts in the same moments, in one call.

    ``on_too_large`` is called once when the answer became longer than it may.
    """

    def __init__(
        self, about: About, log: str, message_id: str, *, open_answers: OpenAnswers, tasks: Tasks,
        seconds: float, newest_part: int, on_too_large: Callable[[], None], keep: Keep,
    ) -> None:  # fmt: skip
        self._log = log
        self._message_id = message_id
        self._about = about
        self._open_answers = open_answers
        self._tasks = tasks
        self._seconds = seconds
        self._newest = newest_part
        self._on_too_large = on_too_large
        self._keep = keep
        self._held: list[int] = []
        """Sizes of the pieces that are held: those that came while Valkey did not take the ones before."""
        self._is_away = False
        self._pieces: list[bytes] = []
        self._size = 0
        self._unsure: Part | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._lock = asyncio.Lock()
        self._failure: CityError | None = None

    def add(self, text: str) -> None:
        """Takes a piece of text, to be told soon.

        Raises:
            StaleDelivery: the answer was ended from elsewhere.
            TooLarge: the answer became too long and was ended.
            Overloaded: too much of this answer waits for Valkey.
            Unavailable: Valkey is away, and there is no room to hold more.
        """
        if self._failure is not None:
            raise self._failure
        piece = frames.escaped(text)
        if self._size and self._size + len(piece) > WAITING_BYTES:
            raise Overloaded("too much of this answer waits already", retry_after=1)
        if self._is_away:
            if not self._keep.take(len(piece)):
                raise self._keep.full()
            self._held.append(len(piece))
        self._pieces.append(piece)
        self._size += len(piece)
        self._tell_soon()

    async def finish(self, end: End) -> Ended | None:
        """Tells what is left and decides that the answer ends; nothing when it broke off. May be repeated.

        Raises:
            TooLarge: the answer became too long and was ended.
            CityError: Valkey did not answer.
        """
        self.stop()
        async with self._lock:
            if self._failure is not None:
                raise self._failure
            part = self._unsure or self._cut()
            while self._pieces:
                await self._tell(part)
                part = self._cut()
            self._unsure = part
            ended = await self._open_answers.close(self._log, self._message_id, part, end)
            self._told(part)
        return ended

    def stop(self) -> None:
        """Tells nothing more by itself."""
        self._release()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tell_soon(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            delay = self._seconds - loop.time() % self._seconds if self._seconds else 0.0
            self._timer = loop.call_later(delay, self._start_telling)

    def _start_telling(self) -> None:
        self._timer = None
        with suppress(RuntimeError):  # the tasks' owner has closed them: nothing is told any more
            self._tasks.spawn("a part of an answer", self._tell_gathered())

    async def _tell_gathered(self) -> None:
        async with self._lock:
            part = self._unsure or self._cut()
            if self._failure is not None or not part.text:
                return
            try:
                await self._tell(part)
            except (Unavailable, Overloaded):
                self._is_away = True
                self._tell_soon()
            except CityError as error:
                self._failure = error
                if isinstance(error, TooLarge):
                    self._on_too_large()
            else:
                if self._pieces:
                    self._tell_soon()

    async def _tell(self, part: Part) -> None:
        self._unsure = part
        newest = await self._open_answers.append(self._log, self._message_id, part)
        if newest is None:
            raise StaleDelivery("this answer was ended already: its lease lapsed, or it was given back")
        self._told(part)

    def _told(self, part: Part) -> None:
        self._unsure = None
        self._release()
        if part.text:
            self._newest = part.number

    def _release(self) -> None:
        self._is_away = False
        held, self._held = self._held, []
        for size in held:
            self._keep.release(size)

    def _cut(self) -> Part:
        """What was gathered so far, as the next part."""
        text = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        head = frames.delta_head(self._about, self._log, self._message_id) if text else b""
        return Part(self._newest + 1, head, text)
