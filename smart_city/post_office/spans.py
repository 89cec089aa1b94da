"""The spans of a message on its way, in the words of OpenTelemetry's conventions for messaging.

Published or asked, delivered, taken by an agent, answered; each is one span for an instance, whoever many hear it.
What a message says, and whose private log it is in, is told to nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from foundations.errors import CityError
from foundations.telemetry import Span, Traces, is_sampled
from foundations.telemetry.spans import Attributes, Kind
from smart_city.post_office.channels import is_private
from smart_city.post_office.inbox.questions import Delivery, Standing
from smart_city.post_office.keep import Held

Step = Literal["publish", "ask", "deliver", "take", "answer"]

_STEPS: dict[Step, tuple[Kind, str]] = {
    "publish": ("producer", "send"), "ask": ("producer", "send"), "deliver": ("consumer", "process"),
    "take": ("consumer", "receive"), "answer": ("producer", "send"),
}  # fmt: skip
"""What each is in those words: kind and type of operation."""


class _Sent(Struct):
    """What is read of a publication; answers to one person have no context."""

    message_id: str = ""
    traceparent: str = ""


_sent = msgspec.json.Decoder(_Sent)


def sent(traces: Traces, step: Step, channel: str, message_id: str, context: str) -> Span | None:
    """Somebody's message arrived, and is to be safe."""
    return traces.start(*_told(step, channel, message_id), context=context)


def delivered(traces: Traces, channel: str, entries: Sequence[bytes], subscribers: int) -> list[Span]:
    """The sampled ones of these publications are about to be written to so many subscribers here.

    An envelope ends with its flag (``…-01"}``), whose last bit the integer test reads: 35 ns for each publication. What
    one call has published at once is one span: one for each would hold up everybody for 10 ms (`publish_batch`).
    """
    ids: dict[str, list[str]] = {}
    for entry in entries:
        if entry[-3] & 1:
            found = _sent.decode(entry)
            ids.setdefault(found.traceparent, []).append(found.message_id)
    spans = []
    for context, those in ids.items():
        alone = those[0] if len(those) == 1 else ""
        more = {"smart_city.subscribers": subscribers, "messaging.batch.message_count": len(those)}
        if is_sampled(context) and (span := traces.start(*_told("deliver", channel, alone, more), parent=context)):
            spans.append(span)
    return spans


def taken(traces: Traces, delivery: Delivery) -> Span | None:
    """An agent gets a question."""
    told = _told("take", delivery.channel, delivery.message_id, {"smart_city.attempt": delivery.attempt})
    return traces.start(*told, parent=delivery.route.traceparent)


def answered(traces: Traces, standing: Standing) -> Span | None:
    """A question gets its answer."""
    told = _told("answer", standing.delivery.channel, standing.delivery.message_id)
    return traces.start(*told, parent=standing.route.traceparent)


def until_told(span: Span, then: Callable[[Any], None]) -> Callable[[Any], None]:
    """``then``, and the span's end with the last word that is told; what is held is not over."""

    def told(outcome: object) -> None:
        then(outcome)
        if not isinstance(outcome, Held):
            span.end(outcome.code if isinstance(outcome, CityError) else "")

    return told


def _told(
    step: Step, channel: str, message_id: str, more: Attributes | None = None
) -> tuple[str, Kind, dict[str, str | int]]:
    """Name, kind and attributes of a span; private logs are as many as people, and theirs."""
    kind, type_ = _STEPS[step]
    place = f"{channel.partition(':')[0]}:*" if is_private(channel) else channel
    attributes: dict[str, str | int] = {
        "messaging.system": "smart_city", "messaging.operation.name": step, "messaging.operation.type": type_,
        "messaging.destination.name": place, **(more or {}),
    }  # fmt: skip
    if message_id:
        attributes["messaging.message.id"] = message_id
    return f"{step} {place}", kind, attributes
