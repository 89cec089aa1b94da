"""MessagePack, at the edge: the same frames as in JSON, translated where a client of MessagePack comes and goes.

What a payload holds as bytes is ``{"$bytes": BASE64}`` everywhere else. Logs, inboxes, the bus and all rules of the
protocol know JSON alone; nothing but this module knows of MessagePack.
"""

from __future__ import annotations

import logging
from base64 import b64decode, b64encode
from collections.abc import Iterator
from math import inf, isfinite
from typing import Any, Final

import msgspec

from foundations.errors import CityError, Internal, InvalidMessage, TooLarge
from foundations.json_bounds import TOO_DEEP
from smart_city.post_office.gateway import messages
from smart_city.post_office.gateway.messages import BadFrame, ClientFrame, texts_of, wire_binary
from smart_city.post_office.gateway.server_frames import Error

BYTES: Final = "$bytes"

_log = logging.getLogger(__name__)

_PLAIN = frozenset({str, int, bool, type(None)})
_NESTED = frozenset({dict, list})


def _refuse_extension(code: int, _: memoryview) -> None:
    raise InvalidMessage(f"the extension type {code} has no form in JSON")


_unpack = msgspec.msgpack.Decoder(ext_hook=_refuse_extension).decode
_pack = msgspec.msgpack.Encoder().encode
_read = msgspec.json.Decoder().decode
_write = msgspec.json.Encoder().encode


# From a client


def decode(data: bytes, *, most_bytes: int) -> ClientFrame:
    """Reads one frame, by the same rules as one in JSON; as JSON, too, it may have ``most_bytes``.

    Raises:
        BadFrame: with `InvalidMessage`, `UnknownType`, or `TooLarge`.
    """
    frame: Any = None
    try:
        frame = _unpack(data)
        text = _as_json(frame, most_bytes)
    except TooLarge as error:
        raise _bad(error, frame) from None
    except (InvalidMessage, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _bad(InvalidMessage(f"Invalid message format: {error}"), frame) from None
    except RecursionError:
        raise _bad(InvalidMessage(f"Invalid message format: {TOO_DEEP}"), frame) from None
    return messages.decode(text)


def _as_json(frame: Any, most_bytes: int) -> bytes:
    """The frame as JSON text.

    What comes back equal from JSON has a form there, and comparing costs a tenth of walking through it: only a
    frame with bytes, or with something that JSON cannot say, is walked through.
    """
    try:
        text = _sized(_write(frame), most_bytes)
        if _read(text) == frame:
            return text
    except TypeError:  # a key that is neither text nor a number
        pass
    if not isinstance(frame, dict):
        raise InvalidMessage("a frame is a map")
    payload = frame.get("payload")
    plain = _plain({name: value for name, value in frame.items() if name != "payload"}, in_payload=False)
    if "payload" in frame:
        plain["payload"] = _plain(payload, in_payload=isinstance(payload, dict))
    return _sized(_write(plain), most_bytes)


def _sized(text: bytes, most_bytes: int) -> bytes:
    if len(text) > most_bytes:
        raise TooLarge(f"as JSON this message has {len(text)} bytes or more, of {most_bytes} that one may have")
    return text


def _plain(value: Any, *, in_payload: bool) -> Any:
    """A value without what JSON does not have."""
    kind = type(value)
    if kind is dict:
        return dict(_plain_items(value, in_payload=in_payload))
    if kind is list:
        return [item if type(item) in _PLAIN else _plain(item, in_payload=in_payload) for item in value]
    if kind is bytes and in_payload:
        return {BYTES: b64encode(value).decode()}
    if kind is bytes:
        raise InvalidMessage("bytes stand inside of a payload's fields, and nowhere else: send text as str")
    if kind in _PLAIN or (kind is float and isfinite(value)):
        return value
    raise InvalidMessage(f"{'NaN and Infinity' if kind is float else 'timestamps'} have no form in JSON")


def _plain_items(found: dict[Any, Any], *, in_payload: bool) -> Iterator[tuple[str, Any]]:
    for key, value in found.items():
        if type(key) is not str:
            raise InvalidMessage(f"the keys of a map are text, and here is one of type {type(key).__name__}")
        yield key, value if type(value) in _PLAIN else _plain(value, in_payload=in_payload)


def _bad(error: CityError, frame: Any) -> BadFrame:
    """The refusal, with the frame's id if that much could be read."""
    found = frame.get("id") if isinstance(frame, dict) else None
    return BadFrame(error, found if isinstance(found, str) and len(found) <= messages.MAX_ID else "")


# To a client


class Packing:
    """Makes binary frames of the text frames that are handed around.

    A hub gives the same frames to one subscriber after the other: those translated last are kept, so that they
    are translated once, and only where somebody reads MessagePack.
    """

    def __init__(self) -> None:
        self._source = self._result = b""

    def __call__(self, frames: bytes) -> bytes:
        """The same frames in MessagePack, whole ones as they are."""
        if frames is not self._source:
            self._result = b"".join([wire_binary(self._of(text)) for text in texts_of(frames)])
            self._source = frames
        return self._result

    def _of(self, text: bytes) -> bytes:
        try:
            return packed(text)
        except Exception:  # supervised: one frame must not keep others, for other readers, from being sent
            _log.exception("a frame could not be put into MessagePack")
            return _pack(Error.of(Internal("a frame was lost here; the log of this instance has the details")))


def packed(text: bytes) -> bytes:
    """One frame in MessagePack."""
    frame = _read(text)
    if (b"$" in text or b"\\" in text) and (b'"$bytes"' in text or b"\\u" in text):  # how the key can be written
        _revive_payloads(frame)
    try:
        return _pack(frame)
    except OverflowError:  # MessagePack has no integers beyond 64 bits
        return _pack(_narrowed(frame))


def _revive_payloads(frame: dict[str, Any]) -> None:
    """Puts bytes into the payload of a frame, or of the message in a delivery."""
    for holder in (frame, frame.get("message")):
        payload = holder.get("payload") if isinstance(holder, dict) else None
        if isinstance(payload, dict):
            for key, value in payload.items():
                payload[key] = _revived(value)


def _revived(value: Any) -> Any:
    """A value with bytes for every object that has the form of bytes."""
    if type(value) is list:
        return [_revived(item) if type(item) in _NESTED else item for item in value]
    if type(value) is not dict:
        return value
    if len(value) == 1 and type(text := value.get(BYTES)) is str and (data := _bytes_of(text)) is not None:
        return data
    return {key: _revived(item) if type(item) in _NESTED else item for key, item in value.items()}


def _bytes_of(text: str) -> bytes | None:
    """What base64 stands for, where it would be written in just this way again."""
    try:
        data = b64decode(text, validate=True)
    except ValueError:
        return None
    return data if b64encode(data).decode() == text else None


def _narrowed(value: Any) -> Any:
    """A value whose largest integers are doubles, which is what they are to a reader of JSON in JavaScript."""
    if type(value) is dict:
        return {key: _narrowed(item) for key, item in value.items()}
    if type(value) is list:
        return [_narrowed(item) for item in value]
    if type(value) is int and not -(2**63) <= value < 2**64:
        try:
            return float(value)
        except OverflowError:
            return inf if value > 0 else -inf
    return value
