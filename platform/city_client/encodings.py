"""The encodings of frames on a socket: JSON in text messages and MessagePack in binary ones, with bytes in payloads.

In JSON bytes are ``{"$bytes": BASE64}``, as the protocol has it; the two directions are exact. What a frame means is
not known here.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from city_client.frames import Frame

BYTES = "$bytes"

Name = Literal["json", "msgpack"]
Fields = Mapping[str, object]

_PLAIN = frozenset({str, int, float, bool, type(None)})
_BINARY = (bytes, bytearray, memoryview)

_read_json = msgspec.json.Decoder(Frame).decode
_read_msgpack = msgspec.msgpack.Decoder(Frame).decode
_read_any = msgspec.json.Decoder().decode
_write_json = msgspec.json.Encoder().encode
_write_msgpack = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Encoding:
    """How frames travel once this encoding is agreed on.

    ``read`` raises `ValueError` for what is no frame, ``write`` `TypeError` for what has no form in JSON: what can be
    sent is the same in both.
    """

    subprotocol: str
    is_text: bool
    read: Callable[[bytes], Frame]
    write: Callable[[Fields], bytes]


def to_json(value: object) -> bytes:
    """A value in JSON, with bytes as the protocol has them.

    What comes back equal has none; comparing costs a third of looking for them.
    """
    text = _write_json(value)
    return text if _read_any(text) == value else _write_json(_with_base64(_built_in(value)))


def _from_json(data: bytes) -> Frame:
    frame = _read_json(data)
    if (b"$" in data or b"\\" in data) and (b'"$bytes"' in data or b"\\u" in data):  # how the key can be written
        inner = frame.message.get("payload") if isinstance(frame.message, dict) else None
        for payload in (frame.payload, inner):
            if isinstance(payload, dict):
                payload.update({key: _with_bytes(value) for key, value in payload.items()})
    return frame


def _to_msgpack(frame: Fields) -> bytes:
    return _write_msgpack(_built_in(frame))


def _built_in(value: object) -> Any:
    """The same without what MessagePack would write in another way than JSON: times, identifiers, keys of numbers."""
    return msgspec.to_builtins(value, builtin_types=_BINARY, str_keys=True)


def _with_base64(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return {key: item if type(item) in _PLAIN else _with_base64(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [item if type(item) in _PLAIN else _with_base64(item) for item in value]
    return {BYTES: b64encode(value).decode()} if isinstance(value, _BINARY) else value


def _with_bytes(value: Any) -> Any:
    if type(value) is list:
        return [_with_bytes(item) for item in value]
    if type(value) is not dict:
        return value
    if len(value) == 1 and type(text := value.get(BYTES)) is str and (data := _bytes_of(text)) is not None:
        return data
    return {key: _with_bytes(item) for key, item in value.items()}


def _bytes_of(text: str) -> bytes | None:
    """What base64 stands for, where it would be written in just this way again."""
    try:
        data = b64decode(text, validate=True)
    except ValueError:
        return None
    return data if b64encode(data).decode() == text else None


JSON = Encoding("smart-city.v1", True, _from_json, to_json)
MSGPACK = Encoding("smart-city.v1.msgpack", False, _read_msgpack, _to_msgpack)


def offered(name: Name) -> list[Encoding]:
    """What a client offers that wants this encoding, its wish first: a server of an earlier release knows JSON alone.

    Raises:
        ValueError: there is no such encoding.
    """
    if name not in ("json", "msgpack"):
        raise ValueError(f"encoding is 'json' or 'msgpack', not {name!r}")
    return [JSON] if name == "json" else [MSGPACK, JSON]
