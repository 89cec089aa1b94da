"""The wire protocol in JSON: what clients may send, as strict structs, and what the server says back, as bytes.

A frame is decoded in two steps, its type and then the struct of that type, so that a field of another type is
refused by name. It knows nothing of connections or channels; `docs/protocol.md` describes the same frames in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from foundations.errors import CityError, InvalidMessage, UnknownType
from smart_city.post_office.gateway.server_frames import Error, Heartbeat

PROTOCOL_VERSION = 1
SUBPROTOCOL = "smart-city.v1"
SUBPROTOCOL_MSGPACK = "smart-city.v1.msgpack"
FEATURES = ("msgpack",)
"""What the welcome names: parts of the protocol that an earlier release does not have."""

MAX_ID = 128
FrameId = Annotated[str, Meta(max_length=MAX_ID)]
Key = Annotated[str, Meta(min_length=1, max_length=64)]
Channel = Annotated[str, Meta(max_length=160)]
DeliveryId = Annotated[str, Meta(max_length=256)]
Intent = Literal["chat", "query", "command"]


class ClientFrame(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """What every frame may carry. It comes from JSON, so that nothing in it can refer to it."""

    type: str = "message"
    id: FrameId | UnsetType = UNSET


class Message(ClientFrame, frozen=True):
    """A message to the agents of a channel."""

    payload: Raw
    channel: Channel = "guide"
    intent: Intent = "chat"
    key: Key | UnsetType = UNSET


class WirePosition(Struct, frozen=True, forbid_unknown_fields=True):
    """A place in a log; without an epoch it is taken in the current one."""

    offset: Annotated[int, Meta(ge=0, le=2**53)]
    epoch: Annotated[str, Meta(max_length=32)] = ""


class Subscribe(ClientFrame, frozen=True):
    """Subscriptions to take or move, each from a position or from now."""

    channels: Annotated[dict[Channel, WirePosition | None], Meta(min_length=1, max_length=500)]


class Unsubscribe(ClientFrame, frozen=True):
    """Subscriptions to end."""

    channels: Annotated[list[Channel], Meta(min_length=1, max_length=500)]


class Publish(ClientFrame, frozen=True):
    """A publication to all subscribers of a channel."""

    channel: Channel
    payload: Raw
    intent: Intent | UnsetType = UNSET
    key: Key | UnsetType = UNSET


class Refresh(ClientFrame, frozen=True):
    """A new token of the same user, on the living connection."""

    session_token: Annotated[str, Meta(min_length=1, max_length=256)]


class Ping(ClientFrame, frozen=True):
    """Asks for a pong."""


class Consume(ClientFrame, frozen=True):
    """An agent takes messages of an inbox, at most ``max`` unacknowledged; 0 pauses."""

    channel: Channel
    max: Annotated[int, Meta(ge=0, le=1000)] = 64


class Done(ClientFrame, frozen=True):
    """Deliveries that are dealt with."""

    delivery_ids: Annotated[list[DeliveryId], Meta(min_length=1, max_length=1000)]


class Failed(ClientFrame, frozen=True):
    """A delivery given back, to be tried again or not."""

    delivery_id: DeliveryId
    reason: Annotated[str, Meta(max_length=1000)] = ""
    retry: bool = True


class Working(ClientFrame, frozen=True):
    """More time for a delivery."""

    delivery_id: DeliveryId


class Reply(ClientFrame, frozen=True):
    """An answer, whole or a part of one."""

    delivery_id: DeliveryId
    payload: Raw | UnsetType = UNSET
    intent: Intent | UnsetType = UNSET
    stream: Literal["start", "delta", "end"] | UnsetType = UNSET


class Stop(ClientFrame, frozen=True):
    """The asker wants no answer to this question any more."""

    message_id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class Forward(ClientFrame, frozen=True):
    """A delivery handed on to another inbox."""

    delivery_id: DeliveryId
    channel: Channel


CLIENT_FRAMES: Mapping[str, type[ClientFrame]] = {
    "message": Message, "subscribe": Subscribe, "unsubscribe": Unsubscribe, "publish": Publish,
    "refresh": Refresh, "ping": Ping, "consume": Consume, "done": Done, "failed": Failed,
    "working": Working, "reply": Reply, "forward": Forward, "stop": Stop,
}  # fmt: skip


class _Type(Struct):
    type: str = "message"


class _Id(Struct):
    id: str | UnsetType = UNSET


_type = msgspec.json.Decoder(_Type)
_id = msgspec.json.Decoder(_Id)
_decoders = {name: msgspec.json.Decoder(struct) for name, struct in CLIENT_FRAMES.items()}


class BadFrame(Exception):
    """A frame that was refused, with its id when it could still be read."""

    def __init__(self, error: CityError, frame_id: str) -> None:
        super().__init__(str(error))
        self.error = error
        self.frame_id = frame_id


def decode(text: bytes) -> ClientFrame:
    """Reads one frame.

    Raises:
        BadFrame: with `InvalidMessage` (not JSON, no object, a wrong or unknown field) or `UnknownType`.
    """
    try:
        kind = _type.decode(text).type
        decoder = _decoders.get(kind)
        if decoder is None:
            known = ", ".join(CLIENT_FRAMES)
            raise BadFrame(UnknownType(f"Unknown type {kind[:64]!r}; known are {known}"), _id_of(text))
        return decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BadFrame(InvalidMessage(f"Invalid message format: {error}"), _id_of(text)) from None


def _id_of(text: bytes) -> str:
    """The id of a frame that is refused, if that much of it can be read."""
    try:
        found = _id.decode(text).id
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return ""
    return "" if found is UNSET or len(found) > MAX_ID else found


encode: Callable[[Struct], bytes] = msgspec.json.Encoder().encode
"""One server frame as JSON, not yet framed for the wire."""


def _framing(first: int) -> Callable[[bytes], bytes]:
    """Puts a frame of the WebSocket protocol around data: unmasked, whole (RFC 6455, 5.2).

    Encoded once, the same bytes go to every connection; that is why they bypass `ServerProtocol`.
    """
    short = [bytes((first, size)) for size in range(126)]
    medium, long = bytes((first, 126)), bytes((first, 127))

    def framed(data: bytes) -> bytes:
        size = len(data)
        if size < 126:
            return short[size] + data
        if size < 65536:
            return medium + size.to_bytes(2, "big") + data
        return long + size.to_bytes(8, "big") + data

    return framed


wire = _framing(0x81)
wire_binary = _framing(0x82)


def texts_of(frames: bytes) -> Iterator[bytes]:
    """The texts in the frames that `wire` has made, one after the other."""
    start = 0
    while start < len(frames):
        size = frames[start + 1]
        head = start + 2
        if size == 126:
            head, size = start + 4, int.from_bytes(frames[head : start + 4], "big")
        elif size == 127:
            head, size = start + 10, int.from_bytes(frames[head : start + 10], "big")
        start = head + size
        yield frames[head:start]


def positioned(data: bytes, offset: int, epoch: str) -> bytes:
    """A logged publication with its place in the log, as a text frame ready to be written."""
    return wire(b'%b,"offset":%d,"epoch":"%b"}' % (data[:-1], offset, epoch.encode()))


def error_frame(error: CityError, frame_id: str = "", delivery_id: str = "") -> bytes:
    """The ``error`` frame of a refusal, ready to be written."""
    return wire(encode(Error.of(error, frame_id, delivery_id)))


HEARTBEAT = wire(encode(Heartbeat()))
