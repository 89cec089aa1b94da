"""The frames of one connection, each in its turn: nothing overtakes, and nothing piles up.

What can be done at once is; a frame that has to wait holds back the ones behind it, and reading pauses. What a frame
says is not known here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol


class Source(Protocol):
    """Where frames come from: a socket."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Turns:
    """Hands frames on, one after the other; at most ``most_beside`` of them may be under way beside the next."""

    __slots__ = ("_beside", "_handle", "_is_busy", "_is_going_on", "_most_beside", "_on_idle", "_source", "_waiting")

    def __init__(
        self, source: Source, handle: Callable[[bytes], None], on_idle: Callable[[], None], *, most_beside: int
    ) -> None:
        self._source = source
        self._handle = handle
        self._on_idle = on_idle
        self._most_beside = most_beside
        self._waiting: deque[bytes] = deque()
        self._is_busy = False
        self._is_going_on = False
        self._beside = 0

    @property
    def is_idle(self) -> bool:
        """Whether everything that came is carried out."""
        return not (self._waiting or self._is_busy or self._beside)

    def take(self, data: bytes) -> None:
        """Handles a frame now, or after those before it."""
        if self._waiting or self._is_busy or self._beside >= self._most_beside:
            self._waiting.append(data)
            self._source.pause_reading()
        else:
            self._handle(data)

    def hold(self) -> None:
        """The frame that is being handled has to wait, and so have those behind it."""
        self._is_busy = True

    def release(self) -> None:
        """It is carried out."""
        self._is_busy = False
        self._go_on()

    def began(self) -> None:
        """One frame more is under way beside the others; beyond a number the rest waits."""
        self._beside += 1

    def ended(self) -> None:
        """One of them is answered."""
        self._beside -= 1
        if self._waiting:
            self._go_on()
        else:
            self._on_idle()

    def _go_on(self) -> None:
        """Handles what waits. A frame that is answered at once comes back here, and is not to do so from within."""
        if self._is_going_on:
            return
        self._is_going_on = True
        while self._waiting and not self._is_busy and self._beside < self._most_beside:
            self._handle(self._waiting.popleft())
        self._is_going_on = False
        if not self._waiting:
            self._source.resume_reading()
            self._on_idle()
