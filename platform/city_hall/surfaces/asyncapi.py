"""``/asyncapi.json``: the WebSocket protocol and the event streams as an AsyncAPI 3.0 document.

It is made of the structs that are decoded and encoded, so that it cannot say anything else than they do; only which
frame answers which is written down here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from city_hall.surfaces.callers import COOKIE
from city_hall.surfaces.channel_events import PATH as EVENTS
from city_hall.surfaces.event_response import MEDIA_TYPE
from city_hall.surfaces.frame_examples import TO_THE_CLIENT, TO_THE_SERVER, shown
from smart_city.post_office.answers.frames import ChatResponse
from smart_city.post_office.envelopes import AgentMessage, Publication
from smart_city.post_office.gateway.admission import PATH, TOKEN_SUBPROTOCOL
from smart_city.post_office.gateway.close_codes import CLOSE_CODES, is_final
from smart_city.post_office.gateway.messages import CLIENT_FRAMES, SUBPROTOCOL, SUBPROTOCOL_MSGPACK, Reply
from smart_city.post_office.gateway.server_frames import (
    Ack,
    Close,
    Delivery,
    Error,
    Heartbeat,
    Opened,
    Place,
    Pong,
    Reset,
    SessionExpiring,
    Stopped,
    Subscribed,
    Unsubscribed,
    Welcome,
    Withdrawn,
)
from smart_city.vocabulary import CHANNEL_PATTERN

Schema = dict[str, Any]
_SOCKET: tuple[type[Struct], ...] = (
    Welcome, Ack, Subscribed, Publication, Withdrawn, ChatResponse, Reset, Unsubscribed, SessionExpiring, Delivery,
    Stopped, Error, Pong, Heartbeat,
)  # fmt: skip
_STREAM: tuple[type[Struct], ...] = (Opened, Publication, Withdrawn, ChatResponse, Reset, SessionExpiring, Close)
_ANSWERS: Mapping[str, type[Struct]] = {"subscribe": Subscribed, "ping": Pong}
"""What answers a frame that is not answered by an `Ack`; any may be answered by an `Error`."""
_INTRODUCTION = (
    "Every channel is a durable log; a subscription is a position in it. Positions, recovery and promises are "
    "described in words at /docs/protocol. Ignore frame types, events and fields that you do not know; fields that "
    "the server does not know are refused."
)


def document(url: str, version: str) -> dict[str, Any]:
    """The whole document of an instance that is reached at ``url``."""
    host, scheme = urlsplit(url).netloc, urlsplit(url).scheme
    security = [{"$ref": f"#/components/securitySchemes/{name}"} for name in _SECURITY]
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Smart City", "version": version, "description": _INTRODUCTION},
        "defaultContentType": "application/json",
        "servers": {
            "socket": {"host": host, "protocol": "wss" if scheme == "https" else "ws", "security": security},
            "http": {"host": host, "protocol": scheme, "security": security[:2]},
        },
        "channels": {"socket": _socket(), "events": _events()},
        "operations": _operations(),
        "components": {
            "messages": {_name(frame): _message(frame) for frame in _all_frames()},
            "schemas": _schemas(),
            "securitySchemes": dict(_SECURITY),
        },
    }


_SECURITY: Mapping[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A session's or a service's token."},
    "cookie": {
        "type": "httpApiKey", "in": "cookie", "name": COOKIE,
        "description": "A browser's session, from a page of an allowed origin.",
    },
    "query": {
        "type": "httpApiKey", "in": "query", "name": "session_token",
        "description": "A session's or a service's token, or a ticket.",
    },
}  # fmt: skip


def _all_frames() -> tuple[type[Struct], ...]:
    return tuple(dict.fromkeys((*CLIENT_FRAMES.values(), *_SOCKET, *_STREAM)))


def _name(frame: type[Struct]) -> str:
    return frame.__name__


# Channels


def _socket() -> dict[str, Any]:
    offered = f"{SUBPROTOCOL} for JSON in text frames, {SUBPROTOCOL_MSGPACK} for MessagePack in binary frames; "
    return {
        "address": PATH,
        "title": "The WebSocket",
        "servers": [{"$ref": "#/servers/socket"}],
        "messages": _referred((*CLIENT_FRAMES.values(), *_SOCKET)),
        "bindings": {
            "ws": {
                "method": "GET",
                "headers": {
                    "type": "object",
                    "properties": {
                        "Sec-WebSocket-Protocol": {
                            "type": "string",
                            "description": f"{offered}a token may stand beside it as {TOKEN_SUBPROTOCOL}TOKEN",
                        }
                    },
                },
                "bindingVersion": "0.1.0",
            }
        },
        "x-subprotocols": [SUBPROTOCOL, SUBPROTOCOL_MSGPACK],
        "x-close-codes": [
            {"code": int(code), "means": means, "come-back": not is_final(code)} for code, means in CLOSE_CODES.items()
        ],
    }


def _events() -> dict[str, Any]:
    return {
        "address": EVENTS,
        "title": "A channel as server-sent events",
        "servers": [{"$ref": "#/servers/http"}],
        "parameters": {"channel": {"description": f"the channel's name: {CHANNEL_PATTERN}", "examples": ["guide"]}},
        "messages": _referred(_STREAM),
        "bindings": {"http": {"bindingVersion": "0.3.0"}},
        "x-content-type": MEDIA_TYPE,
    }


def _referred(frames: Iterable[type[Struct]]) -> dict[str, Any]:
    return {_name(frame): {"$ref": f"#/components/messages/{_name(frame)}"} for frame in frames}


# Operations


def _operations() -> dict[str, Any]:
    """As the server sees them: it receives what clients send."""
    received = {f"receive{_name(frame)}": _received(kind, frame) for kind, frame in CLIENT_FRAMES.items()}
    sent = {f"send{_name(frame)}": _sent(frame, "socket") for frame in _SOCKET}
    streamed = {f"stream{_name(frame)}": _sent(frame, "events") for frame in _STREAM}
    return received | sent | streamed


def _received(kind: str, frame: type[Struct]) -> dict[str, Any]:
    answers: tuple[type[Struct], ...] = (_ANSWERS.get(kind, Ack), Error)
    return {
        "action": "receive",
        "channel": {"$ref": "#/channels/socket"},
        "summary": _summary(frame),
        "messages": [_at("socket", frame)],
        "reply": {"channel": {"$ref": "#/channels/socket"}, "messages": [_at("socket", one) for one in answers]},
    }


def _sent(frame: type[Struct], channel: str) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": _summary(frame),
        "messages": [_at(channel, frame)],
    }


def _at(channel: str, frame: type[Struct]) -> dict[str, str]:
    return {"$ref": f"#/channels/{channel}/messages/{_name(frame)}"}


# Messages and their schemas


def _message(frame: type[Struct]) -> dict[str, Any]:
    [example] = [one for one in (*TO_THE_SERVER, *TO_THE_CLIENT) if type(one) is frame]
    return {
        "name": _name(frame),
        "title": _summary(frame),
        "payload": {"$ref": f"#/components/schemas/{_name(frame)}"},
        "examples": [{"name": _name(frame), "payload": shown(example)}],
    }


def _summary(frame: type[Struct]) -> str:
    return " ".join((frame.__doc__ or "").split()).replace("``", "`")


def _schemas() -> dict[str, Schema]:
    types = (*_all_frames(), AgentMessage, Place)
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    for schema in schemas.values():
        schema["description"] = schema.get("description", "").replace("``", "`")
        if "payload" in schema.get("properties", {}):
            schema["properties"]["payload"] = {"type": "object", "description": "any object"}
    for kind, frame in CLIENT_FRAMES.items():
        _tag(schemas[_name(frame)], kind)
    for placed in (Publication, ChatResponse):
        schemas[_name(placed)]["properties"] |= schemas[_name(Place)]["properties"]
    schemas[_name(Publication)]["properties"]["provisional"] = _PROVISIONAL
    schemas[_name(Publication)]["oneOf"] = [{"required": ["offset", "epoch"]}, {"required": ["provisional"]}]
    schemas[_name(Reply)]["anyOf"] = _SAYS_SOMETHING
    schemas[_name(Delivery)]["properties"]["message"] = {"$ref": f"#/components/schemas/{_name(AgentMessage)}"}
    return schemas


_SAYS_SOMETHING: list[Schema] = [
    {"required": ["payload"]}, {"required": ["stream"], "properties": {"stream": {"enum": ["start", "end"]}}},
]  # fmt: skip
"""A reply has a payload, but for the start and the end of a stream."""


_PROVISIONAL: Schema = {
    "const": True, "description": "it is held, and has no place yet: it comes again, or a `withdrawn` makes it void",
}  # fmt: skip


def _tag(schema: Schema, kind: str) -> None:
    """A client's frame says what it is; a message need not."""
    schema["properties"] = {"type": {}} | schema["properties"] | {"type": {"const": kind}}
    if kind != "message":
        schema["required"] = ["type", *schema.get("required", [])]
