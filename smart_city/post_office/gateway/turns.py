"""The frames of one connection, each in its turn: nothing overtakes, and nothing piles up.

What can be done at once is; a frame that has to wait holds back the ones behind it, and reading pauses. What a frame
says is not known here.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol


class Source(Protocol):
    """Where frames come from: a socket."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Taker(Protocol):
    """Who carries frames out: a connection."""

    def handle(self, data: bytes) -> None:
        """Carries one out, or begins to."""
        ...

    def on_idle(self) -> None:
        """Everything that came may be carried out."""
        ...


_NONE: deque[bytes] = deque()
"""What waits with almost everybody; an empty deque of one's own would be 760 bytes (case: idle connections)."""


class Turns:
    """Hands frames on, one after the other; at most ``most_beside`` of them may be under way beside the next."""

    __slots__ = ("_beside", "_is_busy", "_is_going_on", "_most_beside", "_source", "_taker", "_waiting")

    def __init__(self, source: Source, taker: Taker, *, most_beside: int) -> None:
        self._source = source
        self._taker = taker
        self._most_beside = most_beside
        self._waiting = _NONE
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
            if not self._waiting:
                self._waiting = deque()
            self._waiting.append(data)
            self._source.pause_reading()
        else:
            self._taker.handle(data)

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
        elif not self._beside:
            self._taker.on_idle()

    def _go_on(self) -> None:
        """Handles what waits. A frame that is answered at once comes back here, and is not to do so from within."""
        if self._is_going_on:
            return
        self._is_going_on = True
        while self._waiting and not self._is_busy and self._beside < self._most_beside:
            self._taker.handle(self._waiting.popleft())
        self._is_going_on = False
        if not self._waiting:
            self._waiting = _NONE
            self._source.resume_reading()
            self._taker.on_idle()
