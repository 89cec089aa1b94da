"""What a feed has just sent, kept while somebody catches up on it, so that a busy channel can be joined in motion.

A log that grows faster than it can be read and compared would never let anybody in. It holds frames for a moment and
replaces no reading of the log: who is further behind than this reads on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice

from smart_city.vocabulary import Position

RECENT_BYTES = 256 * 1024


class Recent:
    """The newest frames of a feed, without a hole, each with its position; the oldest leave first."""

    __slots__ = ("_sent", "_size", "followers")

    def __init__(self, position: Position) -> None:
        self.followers = 0
        self.restart(position)

    def restart(self, position: Position) -> None:
        """The feed stands here now, and no frame has led it there."""
        self._sent: deque[tuple[Position, bytes]] = deque([(position, b"")])
        self._size = 0

    def add(self, first: int, epoch: str, frames: Sequence[bytes]) -> None:
        """The feed has sent these frames, which follow the ones before."""
        for offset, frame in enumerate(frames, first):
            self._sent.append((Position(offset, epoch), frame))
            self._size += len(frame)
        while self._size > RECENT_BYTES:
            self._sent.popleft()
            position, frame = self._sent[0]
            self._sent[0] = position, b""  # from here on
            self._size -= len(frame)

    def after(self, position: Position) -> list[bytes] | None:
        """All frames that follow a position; ``None`` where it is not one of the feed's recent ones."""
        index = position.offset - self._sent[0][0].offset
        if not 0 <= index < len(self._sent) or self._sent[index][0] != position:
            return None
        return [frame for _, frame in islice(self._sent, index + 1, None)]
