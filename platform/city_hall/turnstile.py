"""A turnstile for handshakes: of thousands that come at once only so many go on in one turn of the event loop.

The others wait in order, and not for ever; whoever is served already does not wait for them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

Then = Callable[[bool], None]
"""Told that its turn has come, in time or not."""


class Turnstile:
    """Lets ``a_turn`` through in each turn of the loop; who has waited longer than ``seconds`` is told so."""

    def __init__(self, *, a_turn: int, seconds: float) -> None:
        self._a_turn = a_turn
        self._seconds = seconds
        self._waiting: deque[tuple[float, Then]] = deque()

    def enter(self, then: Then) -> None:
        """Calls ``then`` when its turn comes, never at once."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._turn)
        self._waiting.append((loop.time() + self._seconds, then))

    def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for _ in range(min(self._a_turn, len(self._waiting))):
            deadline, then = self._waiting.popleft()
            try:
                then(now <= deadline)
            except Exception as error:  # one handshake's defect is not the others'
                loop.call_exception_handler({"message": "a handshake failed", "exception": error})
        if self._waiting:
            loop.call_soon(self._turn)
