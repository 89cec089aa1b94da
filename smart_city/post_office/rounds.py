"""What one turn of the event loop brings for one place is sent together, one call in flight at a time.

It keeps order and bounds what waits; what a call does, and what each item is told, is the sender's business.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from foundations.errors import CityError, Internal, Overloaded, Unavailable
from foundations.supervision import Tasks

Item = TypeVar("Item")
_log = logging.getLogger(__name__)

AT_ONCE = 512
BYTES_AT_ONCE = 1024 * 1024
WAITING = 16_384
BYTES_WAITING = 32 * 1024 * 1024
RETRY_AFTER = 1.0


class Rounds(Generic[Item]):
    """Sends items in rounds of at most ``AT_ONCE`` or a mebibyte; one that is larger goes alone.

    ``send`` settles every item of its round, whatever happens, and raises only when it is cancelled; then
    ``drop`` is told what was never sent.
    """

    __slots__ = ("_bytes", "_drop", "_is_running", "_name", "_send", "_tasks", "_waiting")

    def __init__(
        self,
        name: str,
        tasks: Tasks,
        send: Callable[[Sequence[Item]], Awaitable[None]],
        drop: Callable[[Sequence[Item]], None],
    ) -> None:
        self._name = name
        self._tasks = tasks
        self._send = send
        self._drop = drop
        self._waiting: deque[tuple[Item, int]] = deque()
        self._bytes = 0
        self._is_running = False

    def add(self, item: Item, size: int = 0) -> None:
        """Puts an item into the next round.

        Raises:
            Overloaded: too much waits already.
            Unavailable: the instance is closing.
        """
        if len(self._waiting) >= WAITING or (self._waiting and self._bytes + size > BYTES_WAITING):
            raise Overloaded(f"too much waits for {self._name}", retry_after=RETRY_AFTER)
        if not self._is_running:
            self._start()
        self._waiting.append((item, size))
        self._bytes += size

    def _start(self) -> None:
        try:
            task = self._tasks.spawn(self._name, self._run())
        except RuntimeError as error:
            raise closing(self._name) from error
        task.add_done_callback(self._ended)
        self._is_running = True

    async def _run(self) -> None:
        while self._waiting:
            await self._send(self._next())
        self._is_running = False

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A task that was cancelled, perhaps before its first step, leaves what it had not sent."""
        if task.cancelled():
            left = [item for item, _ in self._waiting]
            self._waiting.clear()
            self._bytes = 0
            self._is_running = False
            self._drop(left)

    def _next(self) -> Sequence[Item]:
        taken: list[Item] = []
        size = 0
        while self._waiting and len(taken) < AT_ONCE:
            item, bytes_of_item = self._waiting[0]
            if taken and size + bytes_of_item > BYTES_AT_ONCE:
                break
            self._waiting.popleft()
            taken.append(item)
            size += bytes_of_item
        self._bytes -= size
        return taken


def as_told(error: BaseException, name: str) -> CityError:
    """What the items of a failed round are told; a failure that nobody foresaw keeps its inside."""
    if isinstance(error, CityError):
        return error
    if isinstance(error, asyncio.CancelledError):
        return closing(name)
    _log.error("a round of %s failed", name, exc_info=error)
    return Internal("the platform failed here; its log has the rest")


def closing(name: str) -> Unavailable:
    """What is told when the instance stops before a round was sent or answered."""
    return Unavailable(f"{name} is closing here; nothing was promised", retry_after=RETRY_AFTER)
