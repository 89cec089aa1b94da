"""When to come back after a lost socket, and how long to wait: decisions only, no socket and no sleep.

The rules are the protocol's close codes; what a closed connection means for subscriptions is `subscriptions`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

FIRST_CEILING, LAST_CEILING = 0.5, 20.0
"""Seconds: delays are drawn from nothing to a ceiling that doubles from the first to the last."""
LONGEST_RETRY_AFTER = 600.0
"""Seconds: no server sends a client away for longer than this."""
MOMENT_SECONDS = 0.2
"""Whoever is to come back at once waits for up to so long, so that a crowd is no burst."""
ABNORMAL = 1006
DRAINING, AT_CAPACITY, TAKEN_OVER = 1012, 1013, 4010
BAD_FRAME_CODES = {
    1002: "invalid_message",
    1003: "invalid_message",
    1007: "invalid_message",
    1008: "forbidden",
    1009: "too_large",
}
"""Closes that a frame of ours has caused, with what was wrong: what was under way must not be sent again."""

_RETRY_AFTER = re.compile(r"retry_after=([0-9]+(?:\.[0-9]+)?)")


class Backoff:
    """Full jitter: every delay is anything between nothing and a ceiling, so that crowds spread out."""

    def __init__(self, draw: Callable[[float, float], float] = random.uniform) -> None:
        self._draw = draw
        self.attempt = 0

    def next(self) -> float:
        """Counts an attempt and returns the seconds to wait before it."""
        ceiling = min(LAST_CEILING, FIRST_CEILING * 2.0 ** min(self.attempt, 10))
        self.attempt += 1
        return self._draw(0.0, ceiling)

    def reset(self) -> None:
        """Starts over, after something has worked."""
        self.attempt = 0


@dataclass(frozen=True, slots=True)
class Return:
    """How to come back: with the old connection id or not, at once, or after at least ``wait`` seconds."""

    resume: bool = True
    at_once: bool = False
    wait: float = 0.0


def after_close(code: int, reason: str = "") -> Return | None:
    """What a close code asks of a client; ``None`` means that it must not come back."""
    if code == 1000 or 4500 <= code <= 4999:
        return None
    if code == TAKEN_OVER:
        return Return(resume=False)
    if code == DRAINING:
        return Return(at_once=True)
    if code == AT_CAPACITY:
        return Return(wait=_retry_after(reason))
    return Return()


def _retry_after(reason: str) -> float:
    found = _RETRY_AFTER.search(reason)
    return min(float(found[1]), LONGEST_RETRY_AFTER) if found else 0.0
