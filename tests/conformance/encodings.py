"""Frames as the messages of a WebSocket: JSON in text, MessagePack in binary, and bytes as scenarios write them.

In scenarios bytes are ``{"$bytes": BASE64}``, whatever the encoding. It is written apart from the platform's own
code, so that the one can be held against the other.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import msgspec

from tests.conformance.patterns import Mismatch

Frame = dict[str, Any]
SUBPROTOCOLS: Mapping[str, str] = {"json": "smart-city.v1", "msgpack": "smart-city.v1.msgpack"}
BYTES = "$bytes"


def write(frame: Any, encoding: str) -> str | bytes:
    """A frame as a message of this encoding."""
    return json.dumps(frame) if encoding == "json" else msgspec.msgpack.encode(with_bytes(frame))


def read(data: str | bytes, encoding: str) -> Frame:
    """A message as a frame.

    Raises:
        Mismatch: it is no frame, or is in the other encoding.
    """
    if isinstance(data, bytes) is (encoding == "json"):
        raise Mismatch(f"a {'binary' if isinstance(data, bytes) else 'text'} message in a connection of {encoding}")
    try:
        frame = json.loads(data) if isinstance(data, str) else without_bytes(msgspec.msgpack.decode(data))
    except ValueError as error:
        raise Mismatch(f"no frame: {error}: {data[:200]!r}") from None
    if not isinstance(frame, dict):
        raise Mismatch(f"a frame is an object, and this is {data[:200]!r}")
    return frame


def with_bytes(value: Any) -> Any:
    """A value with bytes for what stands for them."""
    if isinstance(value, dict):
        if value.keys() == {BYTES}:
            return base64.b64decode(value[BYTES])
        return {key: with_bytes(item) for key, item in value.items()}
    return [with_bytes(item) for item in value] if isinstance(value, list) else value


def without_bytes(value: Any) -> Any:
    """A value with what stands for its bytes.

    Raises:
        Mismatch: it has both.
    """
    if isinstance(value, bytes):
        return {BYTES: base64.b64encode(value).decode()}
    if isinstance(value, dict):
        if value.keys() == {BYTES}:
            raise Mismatch(f"in MessagePack bytes are bytes, and this came as {value}")
        return {key: without_bytes(item) for key, item in value.items()}
    return [without_bytes(item) for item in value] if isinstance(value, list) else value
