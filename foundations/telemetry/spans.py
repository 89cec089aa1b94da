"""Spans of what was sampled, as the platform's parts see them: a context is begun or continued, and a span ends.

Here nobody records any, which is how the platform runs unless told otherwise; `exporting` has those that are.
Whether something is recorded stands in the flag of its ``traceparent``, so that the hot path asks nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from foundations.telemetry.traces import child_traceparent, new_traceparent

Kind = Literal["server", "producer", "consumer"]
Attributes = Mapping[str, str | int]


class Span(Protocol):
    """Something that is under way and recorded."""

    context: str
    """The ``traceparent`` of what it causes."""

    def end(self, error: str = "") -> None:
        """It is over; with an error's code, if it came to nothing."""
        ...


class Traces:
    """Traces that nobody records."""

    is_on = False
    """Whether spans are recorded at all."""

    def begin(self, parent: str = "") -> str:
        """A context of its own below ``parent``, or of a new trace; its flag says whether it is sampled."""
        return child_traceparent(parent) if parent else new_traceparent()

    def start(
        self, name: str, kind: Kind, attributes: Attributes, *, context: str = "", parent: str = ""
    ) -> Span | None:
        """The span of ``context`` below ``parent``, or of a context of its own; nothing where none is recorded.

        A parent that is not sampled has no children.
        """
        return None

    async def close(self, seconds: float) -> None:
        """Hands over what was recorded, for so long at most."""
