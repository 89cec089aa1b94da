"""What an instance keeps in its memory while Valkey is away: counted, bounded, and for so long and no longer.

Publications, questions and agents' words share the bound. How each of them is kept, and when it is done, is the matter
of whoever keeps it.
"""

from __future__ import annotations

from time import monotonic
from typing import NamedTuple

from foundations.errors import Unavailable

ENVELOPE_BYTES = 512
"""What a message takes beside its own bytes; small ones are not free."""


class Held(NamedTuple):
    """Told once, before the final word: a message is kept here, and lost if this instance dies first."""

    message_id: str = ""


class Keep:
    """The room for what is held. ``after`` seconds without an answer something is held, for ``seconds`` at most.

    The append script remembers an hour what it was sent, so that sending it again within that is harmless.
    """

    def __init__(self, most_bytes: int = 16 * 1024 * 1024, *, seconds: float = 1800.0, after: float = 1.0) -> None:
        self.most_bytes = most_bytes
        self.seconds = seconds
        self.after = after
        self.messages = 0
        self.bytes = 0
        self.taken = 0
        """How many were ever held."""
        self._last_taken_at = float("-inf")

    def take(self, size: int) -> bool:
        """Makes room for a message of so many bytes; false, and nothing taken, when there is too little."""
        if self.bytes + size + ENVELOPE_BYTES > self.most_bytes:
            return False
        self.add(size)
        return True

    def add(self, size: int) -> None:
        """Counts a message that is here whether there is room or not: it was sent, and may be done."""
        self.messages += 1
        self.bytes += size + ENVELOPE_BYTES
        self.taken += 1
        self._last_taken_at = monotonic()

    def release(self, size: int) -> None:
        """A message has its final word."""
        self.messages -= 1
        self.bytes -= size + ENVELOPE_BYTES

    def has_taken_since(self, moment: float) -> bool:
        """Whether anything had to be held after this moment of the monotonic clock: Valkey was away."""
        return self._last_taken_at >= moment

    def full(self) -> Unavailable:
        """What is told of a message for which there is no room."""
        return Unavailable(
            f"Valkey is away, and {self.most_bytes} bytes are held for it already; nothing was kept", retry_after=1
        )
