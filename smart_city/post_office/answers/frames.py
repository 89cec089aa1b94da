"""The frames of answers: what an asker reads in its log, and the parts of an answer while it is given.

Encoding only. A part's frame is made up to its text, so that a script can add text and number by itself.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from foundations.errors import InvalidMessage
from smart_city.post_office.envelopes import Sender, publication, timestamp

EMPTY = b"{}"


class _Object(Struct):
    """Any object."""


_encode = msgspec.json.Encoder().encode
_fields = msgspec.json.Decoder(dict[str, Raw])
_object = msgspec.json.Decoder(_Object)
_text = msgspec.json.Decoder(str)


class About(NamedTuple):
    """What all frames of one answer say: who answers on which channel, and what."""

    channel: str
    agent: str
    in_reply_to: str
    conversation_id: str
    traceparent: str = ""


class Failure(Struct, frozen=True):
    """Why an answer did not come."""

    code: str
    message: str


class ChatResponse(Struct, frozen=True, tag_field="type", tag="chat_response", kw_only=True):
    """An answer as its asker gets it. ``log`` names the log in which it stands."""

    channel: str
    agent: str
    in_reply_to: str
    conversation_id: str | UnsetType = UNSET
    intent: str | UnsetType = UNSET
    message_id: str
    log: str
    stream: Literal["start", "delta", "end", "error"] | UnsetType = UNSET
    snapshot: bool | UnsetType = UNSET
    error: Failure | UnsetType = UNSET
    retrying: bool | UnsetType = UNSET
    timestamp: str
    payload: Raw | UnsetType = UNSET
    part: int | UnsetType = UNSET


def whole(about: About, log: str, message_id: str, payload: bytes, *, intent: str = "", is_end: bool = False) -> bytes:
    """An answer, at once or as the end of one in parts."""
    return _frame(
        about,
        log,
        message_id,
        payload=Raw(payload),
        intent=intent or UNSET,
        stream="end" if is_end else UNSET,
    )


def start(about: About, log: str, message_id: str, payload: bytes, *, intent: str = "") -> bytes:
    """The beginning of an answer in parts."""
    return _frame(about, log, message_id, payload=Raw(payload), intent=intent or UNSET, stream="start", part=0)


def error(about: About, log: str, message_id: str, failure: Failure, payload: bytes, *, retrying: bool) -> bytes:
    """The end of an answer that did not come, or not to its end."""
    return _frame(about, log, message_id, payload=Raw(payload), stream="error", error=failure, retrying=retrying)


def delta_head(about: About, log: str, message_id: str) -> bytes:
    """A part of an answer, up to its text."""
    return _up_to_text(_frame(about, log, message_id, stream="delta"))


def snapshot_head(about: About, log: str, message_id: str) -> bytes:
    """What a joiner gets of an open answer, up to its text."""
    return _up_to_text(_frame(about, log, message_id, stream="delta", snapshot=True))


def message(about: About, channel: str, message_id: str, payload: bytes, *, intent: str = "") -> bytes:
    """An answer to everybody on a channel."""
    return publication(
        channel=channel, sender=Sender(kind="agent", id=about.agent), payload=payload, message_id=message_id,
        intent=intent, in_reply_to=about.in_reply_to, traceparent=about.traceparent,
    )  # fmt: skip


def failure_payload(failure: Failure) -> bytes:
    """What a channel's message says of an answer that did not come; an own frame exists for persons only."""
    return _encode({"error": failure})


def escaped(text: str) -> bytes:
    """Text as it stands between the quotes of a JSON string."""
    return _encode(text)[1:-1]


def unescaped(text: bytes) -> str:
    """The text between the quotes of a JSON string."""
    return _text.decode(b'"%b"' % text)


def text_of(payload: bytes) -> str | None:
    """The payload's ``message``, if it has one that is text.

    Raises:
        InvalidMessage: the payload is no JSON object.
    """
    found = fields_of(payload).get("message")
    if found is None or not bytes(found).startswith(b'"'):
        return None
    try:
        return _text.decode(found)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidMessage(f"Invalid message format: message: {error}") from None


def with_text(payload: bytes, text: str) -> bytes:
    """The payload with the whole text as its ``message``, unless it has a message of its own."""
    fields = fields_of(payload)
    return payload if "message" in fields else _encode({"message": text, **fields})


def check_object(payload: bytes) -> None:
    """Checks that a payload is a JSON object; nothing of it is read.

    Raises:
        InvalidMessage: it is none.
    """
    try:
        _object.decode(payload)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidMessage(f"Invalid message format: payload: {error}") from None


def fields_of(payload: bytes) -> dict[str, Raw]:
    """The payload's fields, undecoded.

    Raises:
        InvalidMessage: the payload is no JSON object.
    """
    try:
        return _fields.decode(payload)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidMessage(f"Invalid message format: payload: {error}") from None


def _frame(about: About, log: str, message_id: str, **more: object) -> bytes:
    return _encode(
        ChatResponse(
            channel=about.channel, agent=about.agent, in_reply_to=about.in_reply_to,
            conversation_id=about.conversation_id or UNSET, message_id=message_id, log=log,
            timestamp=timestamp(), **more,  # type: ignore[arg-type]  # the few callers are in this file
        )
    )  # fmt: skip


def _up_to_text(frame: bytes) -> bytes:
    return frame[:-1] + b',"payload":{"message":"'
