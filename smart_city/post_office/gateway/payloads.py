"""The little that is read of a payload: that everybody can read it, and its conversation.

It is carried on as it came. Nothing here depends on the encoding in which it arrived.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from foundations.errors import InvalidMessage
from foundations.json_bounds import OUT_OF_RANGE, TOO_DEEP, has_too_large, is_too_deep

Payload = dict[str, Any]

MAX_CONVERSATION = 128

_decode = msgspec.json.Decoder().decode


def read(payload: Raw) -> Payload:
    """A payload as an object, read once for everything that is asked of it.

    Raises:
        InvalidMessage: it is no object, is nested too deep, or has a number that some readers cannot take.
    """
    text = bytes(payload)
    if is_too_deep(text):
        raise _invalid(TOO_DEEP)
    if has_too_large(text):
        raise _invalid(OUT_OF_RANGE)
    try:
        found = _decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _invalid(str(error)) from None
    if not isinstance(found, dict):
        raise _invalid("it must be an object")
    return found


def conversation_of(payload: Payload) -> str:
    """The opaque ``conversation_id``; empty when there is none.

    Raises:
        InvalidMessage: it is no short string.
    """
    found = payload.get("conversation_id", "")
    if not isinstance(found, str) or len(found) > MAX_CONVERSATION:
        raise _invalid(f"conversation_id must be a string of at most {MAX_CONVERSATION} characters")
    return found


def _invalid(why: str) -> InvalidMessage:
    return InvalidMessage(f"Invalid message format: payload: {why}")
