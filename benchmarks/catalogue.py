"""All cases and all subjects there are, in one place each. A new one is a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from benchmarks.case import Case
from benchmarks.cases import fan_out_paced
from benchmarks.city import City
from benchmarks.limit import Limit
from benchmarks.subjects import Missing, Subject

CASES: Sequence[Case] = (fan_out_paced.CASE,)

SUBJECTS: Mapping[str, Callable[[int], Subject]] = {
    "platform": City,
    "limit": lambda channels: Limit("each"),
    "gathered": lambda channels: Limit("gathered"),
}
"""Each is made for a number of channels, and started by entering it."""


def made(name: str, channels: int) -> Subject:
    """The subject of this name, not yet started.

    Raises:
        Missing: there is none.
    """
    if name not in SUBJECTS:
        raise Missing("the harness has no subject of this name")
    return SUBJECTS[name](channels)
