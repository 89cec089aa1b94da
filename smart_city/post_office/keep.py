"""What an instance keeps in its memory while Valkey is away: counted, bounded, and for so long and no longer.

Publications, questions and agents' words share the bound. How each of them is kept, and when it is done, is the matter
of whoever keeps it.
"""

from __future__ import annotations

from collections import Counter
from time import monotonic

from msgspec import Struct

from foundations.errors import Unavailable

ENVELOPE_BYTES = 512
"""What a message takes beside its own bytes; small ones are not free."""


class Held(Struct, frozen=True, gc=False):
    """Told once, before the final word: a message is kept here, and lost if this instance dies first."""

    message_id: str = ""


class Keep:
    """The room for what is held. ``after`` seconds without an answer something is held, for ``seconds`` at most.

    A user fills at most a share of it, as of an inbox; one message of each always may come in. The append
    script remembers an hour what it was sent, so that sending it again within that is harmless.
    """

    def __init__(
        self,
        most_bytes: int = 16 * 1024 * 1024,
        *,
        user_share: float = 0.1,
        seconds: float = 1800.0,
        after: float = 1.0,
    ) -> None:
        self.most_bytes = most_bytes
        self._most_of_one = int(most_bytes * user_share)
        self.seconds = seconds
        self.after = after
        self.messages = 0
        self.bytes = 0
        self.taken = 0
        """How many were ever held."""
        self._bytes_of: Counter[str] = Counter()
        """What is held of each user; services, who write for many, have no share."""
        self._last_taken_at = float("-inf")

    def take(self, size: int, sender: str = "") -> bool:
        """Makes room for a message of so many bytes; false, and nothing taken, when there is too little.

        ``sender`` is who sent it, as `Identity.subject` says.
        """
        size_here, mine = size + ENVELOPE_BYTES, self._bytes_of.get(sender, 0)
        if self.bytes + size_here > self.most_bytes or (mine and mine + size_here > self._most_of_one):
            return False
        self.add(size, sender)
        return True

    def add(self, size: int, sender: str = "") -> None:
        """Counts a message that is here whether there is room or not: it was sent, and may be done."""
        self._count(1, size + ENVELOPE_BYTES, sender)
        self.taken += 1
        self._last_taken_at = monotonic()

    def release(self, size: int, sender: str = "") -> None:
        """A message has its final word."""
        self._count(-1, -size - ENVELOPE_BYTES, sender)

    def _count(self, messages: int, size: int, sender: str) -> None:
        self.messages += messages
        self.bytes += size
        if sender and not sender.startswith("~"):
            self._bytes_of[sender] += size
            if not self._bytes_of[sender]:
                del self._bytes_of[sender]

    def has_taken_since(self, moment: float) -> bool:
        """Whether anything had to be held after this moment of the monotonic clock: Valkey was away."""
        return self._last_taken_at >= moment

    def full(self) -> Unavailable:
        """What is told of a message for which there is no room."""
        return Unavailable(
            "Valkey is away, and all is held for it that may be, of you or altogether; nothing was kept", retry_after=1
        )
