"""What one turn of the event loop brings for one place is sent together, one call in flight at a time.

It keeps order, bounds what waits, and tells every item once what became of it, whatever happens. What a call
does is its sender's business.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from foundations.errors import CityError, Internal, Overloaded, Unavailable
from foundations.supervision import Tasks

Item = TypeVar("Item")
Reply = TypeVar("Reply")
_log = logging.getLogger(__name__)

AT_ONCE = 512
BYTES_AT_ONCE = 1024 * 1024
WAITING = 16_384
BYTES_WAITING = 32 * 1024 * 1024
RETRY_AFTER = 1.0


class Rounds(Generic[Item, Reply]):
    """Sends items in rounds of at most ``AT_ONCE`` or a mebibyte; one that is larger goes alone.

    ``send`` returns a reply for each item of a round. ``tell`` hears of each item the reply, or why there is
    none.
    """

    __slots__ = ("_bytes", "_in_flight", "_is_running", "_name", "_send", "_sizes", "_tasks", "_tell", "_waiting")

    def __init__(
        self,
        name: str,
        tasks: Tasks,
        send: Callable[[Sequence[Item]], Awaitable[Sequence[Reply]]],
        tell: Callable[[Item, Reply | CityError], None],
    ) -> None:
        self._name = name
        self._tasks = tasks
        self._send = send
        self._tell = tell
        self._waiting: deque[Item] = deque()
        self._sizes: deque[int] = deque()
        self._in_flight: Sequence[Item] = ()
        self._bytes = 0
        self._is_running = False

    def add(self, item: Item, size: int = 0) -> None:
        """Puts an item of about ``size`` bytes into the next round; what cannot wait is told so at once."""
        if len(self._waiting) >= WAITING or (self._waiting and self._bytes + size > BYTES_WAITING):
            refusal = Overloaded(f"too much waits for {self._name}", retry_after=RETRY_AFTER)
            return self._tell_all((item,), (refusal,))
        if not self._is_running and not self._start():
            return self._tell_all((item,), (self._closing(),))
        self._waiting.append(item)
        self._sizes.append(size)
        self._bytes += size
        return None

    @property
    def unanswered(self) -> Sequence[Item]:
        """The items that were told nothing yet."""
        return [*self._in_flight, *self._waiting]

    def _start(self) -> bool:
        try:
            task = self._tasks.spawn(self._name, self._run())
        except RuntimeError:  # its owner has closed the tasks
            return False
        task.add_done_callback(self._ended)
        self._is_running = True
        return True

    async def _run(self) -> None:
        while self._waiting:
            self._in_flight = self._next()
            replies = await self._replies(self._in_flight)
            told, self._in_flight = self._in_flight, ()
            self._tell_all(told, replies)
        self._is_running = False

    async def _replies(self, items: Sequence[Item]) -> Sequence[Reply | CityError]:
        try:
            replies = await self._send(items)
            if len(replies) == len(items):
                return replies
            _log.error("%d of %d have a reply from %s", len(replies), len(items), self._name)
        except CityError as error:
            return [error] * len(items)
        except Exception:
            _log.exception("a round of %s failed", self._name)
        return [Internal("the platform failed here; its log has the rest")] * len(items)

    def _next(self) -> Sequence[Item]:
        count = size = 0
        for bytes_of_item in self._sizes:
            if count == AT_ONCE or (count and size + bytes_of_item > BYTES_AT_ONCE):
                break
            count, size = count + 1, size + bytes_of_item
        self._bytes -= size
        for _ in range(count):
            self._sizes.popleft()
        return [self._waiting.popleft() for _ in range(count)]

    def _tell_all(self, items: Sequence[Item], replies: Sequence[Reply | CityError]) -> None:
        for item, reply in zip(items, replies, strict=True):
            try:
                self._tell(item, reply)
            except Exception:  # one listener's failure must not keep the others of its round in the dark
                _log.exception("a listener of %s failed", self._name)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A task that was cancelled, perhaps before its first step, has told nobody."""
        if not task.cancelled():
            return
        left = self.unanswered
        self._waiting.clear()
        self._sizes.clear()
        self._in_flight, self._bytes, self._is_running = (), 0, False
        self._tell_all(left, [self._closing()] * len(left))

    def _closing(self) -> Unavailable:
        return Unavailable(f"{self._name} is closing here; nothing was promised", retry_after=RETRY_AFTER)


def resolve(answer: asyncio.Future[Any], reply: object) -> None:
    """Tells whoever awaits a future, if anybody still does."""
    if answer.done():
        return
    if isinstance(reply, CityError):
        answer.set_exception(copy.copy(reply))  # an error told to many would grow with each traceback
    elif isinstance(reply, Exception):
        answer.set_exception(reply)
    else:
        answer.set_result(reply)
