"""Envelopes: publications and questions encoded once, as the JSON that logs and inboxes keep.

A publication is encoded without its place in the log, which whoever reads it adds. What a payload says is the
sender's business: it is carried as it came.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from foundations.telemetry import new_traceparent

_encoder = msgspec.json.Encoder()
_canonical = msgspec.json.Encoder(order="sorted").encode


class Sender(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Who sent a publication or a question."""

    kind: Literal["user", "agent", "service"]
    id: str
    name: str | UnsetType = UNSET


class Publication(Struct, frozen=True, tag_field="type", tag="message", kw_only=True):
    """What every subscriber of a channel gets."""

    channel: str
    sender: Sender
    intent: str | UnsetType = UNSET
    payload: Raw
    message_id: str
    in_reply_to: str | UnsetType = UNSET
    timestamp: str
    traceparent: str


class AgentMessage(Struct, frozen=True, kw_only=True):
    """What an agent gets in a delivery."""

    channel: str
    sender: Sender
    intent: str
    payload: Raw
    message_id: str
    conversation_id: str | UnsetType = UNSET
    context: Mapping[str, Any]
    timestamp: str
    traceparent: str


class _Clock:
    """UUIDv7s that grow within this process, and timestamps written once a millisecond.

    All but the counter of an id is written once a millisecond, too: 0.4 µs an id instead of 1.1 (questions, 20 in
    flight). Ids are no secrets: who knows one can guess its neighbours.
    """

    __slots__ = ("_counter", "_head", "_millisecond", "_second", "_stamped", "_tail", "_text", "_up_to_the_second")

    def __init__(self) -> None:
        self._millisecond = 0
        self._counter = 0
        self._head = self._tail = ""
        self._stamped = 0
        self._text = ""
        self._second = 0
        self._up_to_the_second = ""

    def timestamp(self) -> str:
        """Now as RFC 3339 in UTC, written once a millisecond."""
        now = time.time_ns() // 1_000_000
        if now != self._stamped:
            self._stamped = now
            second, milliseconds = divmod(now, 1000)
            if second != self._second:
                self._second = second
                self._up_to_the_second = f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"
            self._text = f"{self._up_to_the_second}.{milliseconds:03d}Z"
        return self._text

    def message_id(self) -> str:
        """A UUIDv7 (RFC 9562, 5.7): 48 bits of milliseconds, 12 of a counter, 62 random ones of the millisecond."""
        now = time.time_ns() // 1_000_000
        if now > self._millisecond:
            self._begin(now)
        elif self._counter == 0xFFF:
            self._begin(self._millisecond + 1)
        else:
            self._counter += 1
        return f"{self._head}{self._counter:03x}{self._tail}"

    def _begin(self, millisecond: int) -> None:
        self._millisecond = millisecond
        self._counter = 0
        random_part = random.getrandbits(62) | 1 << 63
        self._head = f"{millisecond >> 16:08x}-{millisecond & 0xFFFF:04x}-7"
        self._tail = f"-{random_part >> 48:04x}-{random_part & 0xFFFF_FFFF_FFFF:012x}"


_clock = _Clock()


new_message_id = _clock.message_id
"""A fresh UUIDv7; those of one process grow."""
timestamp = _clock.timestamp
"""The present moment as RFC 3339 in UTC with milliseconds."""


def canonical(payload: Mapping[str, Any]) -> bytes:
    """The same bytes for the same payload, however it was spaced, ordered, escaped or encoded."""
    return _canonical(payload)


def digest_of(*parts: bytes | str) -> str:
    """What tells a repeated body from another one under the same idempotency key."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "big"))
        sha.update(data)
    return sha.hexdigest()[:32]


def publication(
    *,
    channel: str,
    sender: Sender,
    payload: Raw | bytes,
    message_id: str,
    intent: str = "",
    in_reply_to: str = "",
    traceparent: str = "",
) -> bytes:
    """A publication as it is logged."""
    return _encoder.encode(
        Publication(
            channel=channel, sender=sender, intent=intent or UNSET, payload=Raw(payload), message_id=message_id,
            in_reply_to=in_reply_to or UNSET, timestamp=timestamp(), traceparent=traceparent or new_traceparent(),
        )
    )  # fmt: skip


class Letterhead:
    """What all publications of one sender in one call say alike, encoded once.

    A publication is then 0.4 µs instead of 1.0 (`publish_batch`), and the same bytes that `publication` makes.
    """

    __slots__ = ("_head", "_middle", "_tail", "sender")

    def __init__(self, sender: Sender, traceparent: str) -> None:
        self.sender = sender
        blank = publication(channel="", sender=sender, payload=b"", message_id="", traceparent=traceparent)
        self._head, _, rest = blank.partition(b'""')
        self._middle, _, self._tail = rest.partition(b',"payload":,"message_id":""')

    def publication(self, channel: str, payload: bytes, message_id: str) -> bytes:
        """A publication as it is logged."""
        return b'%b%b%b,"payload":%b,"message_id":"%b"%b' % (
            self._head, _encoder.encode(channel), self._middle, payload, message_id.encode(), self._tail
        )  # fmt: skip


def agent_message(
    *,
    channel: str,
    sender: Sender,
    payload: Raw | bytes,
    message_id: str,
    intent: str,
    context: Mapping[str, Any],
    conversation_id: str = "",
    traceparent: str = "",
) -> bytes:
    """A question as it is queued."""
    return _encoder.encode(
        AgentMessage(
            channel=channel, sender=sender, intent=intent, payload=Raw(payload), message_id=message_id,
            conversation_id=conversation_id or UNSET, context=context, timestamp=timestamp(),
            traceparent=traceparent or new_traceparent(),
        )
    )  # fmt: skip


class QuestionForm:
    """What all questions of one sender in a conversation say alike, encoded once.

    A question is then 0.3 µs instead of 0.6 (questions, 20 in flight), and the same bytes that `agent_message` makes.
    """

    __slots__ = ("_head", "_middle")

    def __init__(
        self, *, channel: str, sender: Sender, intent: str, context: Mapping[str, Any], conversation_id: str
    ) -> None:
        blank = agent_message(
            channel=channel, sender=sender, payload=b"", message_id="", intent=intent, context=context,
            conversation_id=conversation_id,
        )  # fmt: skip
        self._head, _, rest = blank.partition(b',"payload":,"message_id":""')
        self._middle = rest.rpartition(b',"timestamp":"')[0]

    def question(self, payload: Raw | bytes, message_id: str, traceparent: str) -> bytes:
        """A question as it is queued."""
        return b'%b,"payload":%b,"message_id":"%b"%b,"timestamp":"%b","traceparent":"%b"}' % (
            self._head, payload, message_id.encode(), self._middle, timestamp().encode(), traceparent.encode(),
        )  # fmt: skip
