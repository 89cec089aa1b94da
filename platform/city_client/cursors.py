"""Where a reader stands in one channel, and what it has missed: the rule of positions, without any I/O.

"My position := the last acknowledgement, reset or publication" is all there is to it; a cursor applies it,
recognises what was seen before, and remembers a gap until the next publication can carry it.
"""

from __future__ import annotations

from dataclasses import dataclass

from city_client.frames import Position, Standing


@dataclass(frozen=True, slots=True)
class Gap:
    """Continuity broke: what lay between the two positions, if anything, will not come.

    ``reason`` is the server's (``trimmed``, ``unknown_epoch``, ``diverged``, ``future``, ``too_far``, …), or
    ``skipped`` where an offset was missing without a word.
    """

    reason: str
    after: Position | None
    until: Position


class Cursor:
    """One reader's place in one channel."""

    __slots__ = ("gap", "position")

    def __init__(self, position: Position | None = None) -> None:
        self.position = position
        self.gap: Gap | None = None

    def acknowledged(self, standing: Standing) -> None:
        """A subscribe was answered: the next publication follows ``standing``."""
        if standing.recovered is False:
            self._break(standing.reason or "unknown", standing.position)
        self.position = standing.position

    def reset(self, position: Position, reason: str) -> None:
        """The server says that continuity broke; what follows starts after ``position``."""
        self._break(reason or "reset", position)
        self.position = position

    def take(self, position: Position) -> bool:
        """Moves to a publication; ``False`` if it was seen before."""
        here = self.position
        if here is not None:
            if position.offset <= here.offset:
                if position.epoch == here.epoch:
                    return False
                self._break("diverged", position)
            elif position.offset > here.offset + 1:
                self._break("skipped", Position(position.offset - 1, position.epoch))
        self.position = position
        return True

    def take_gap(self) -> Gap | None:
        """The gap before the publication just taken, once."""
        gap, self.gap = self.gap, None
        return gap

    def _break(self, reason: str, until: Position) -> None:
        after = self.gap.after if self.gap else self.position
        self.gap = Gap(reason, after, until)
