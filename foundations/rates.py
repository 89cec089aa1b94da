"""How fast something may go on: a value, written ``50/100`` in settings. Who is held to it is not known here."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TEXT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)/([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class Rate:
    """So many a second in the long run, so many at once."""

    per_second: float
    burst: int

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Reads ``50/100``: fifty a second, a hundred at once.

        Raises:
            ValueError: anything else, zeros included.
        """
        found = _TEXT.fullmatch(text)
        if found is None or not float(found[1]) or not int(found[2]):
            raise ValueError(f"{text!r} is not a rate: SO MANY A SECOND/SO MANY AT ONCE, as in 50/100")
        return cls(float(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.per_second:g}/{self.burst}"

    def within(self, other: Rate) -> bool:
        """Whether this allows nothing that the other does not."""
        return self.per_second <= other.per_second and self.burst <= other.burst

    def narrowed(self, other: Rate | None) -> Rate:
        """What is within both."""
        if other is None:
            return self
        return Rate(min(self.per_second, other.per_second), min(self.burst, other.burst))
