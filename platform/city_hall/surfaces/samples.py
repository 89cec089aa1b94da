"""Examples of results, made from their schemas: each field has the value that one of its name would have.

They are for readers and promise no more than the schema does; a name that nobody has thought of gets a value of its
type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from city_hall.surfaces.catalogue import Schema

_MESSAGE = {"message": "The report is ready."}
_MOMENT = "2026-11-20T08:00:00.000Z"
_PUBLICATION = {
    "type": "message", "channel": "guide", "sender": {"kind": "service", "id": "content"}, "payload": _MESSAGE,
    "message_id": "01a1f878-2b79-7000-9b65-4b2d23abc2af", "timestamp": _MOMENT,
    "traceparent": "00-3a2b1375c855627e783cde03cd28de93-25904114f6dc65bb-01", "offset": 41, "epoch": "k3f9",
}  # fmt: skip
_BY_NAME: Mapping[str, Any] = {
    "channel": "guide", "channels": "guide", "by_channel": "guide", "by_instance": "host-8000-1",
    "consumes": "pillar:content", "connection_id": "c0a1b2c3d4e5f60718293", "connections": "c0a1b2c3d4e5f60718293",
    "user_id": "alice", "instance_id": "host-8000-1", "message_id": _PUBLICATION["message_id"], "offset": 41,
    "epoch": "k3f9", "publications": _PUBLICATION, "message": _MESSAGE, "payload": _MESSAGE, "context": {},
    "message_format": {"channel": "guide", "intent": "chat", "payload": _MESSAGE},
    "session_id": "5f0c2d1ab7e94c3f", "session_token": "ses_…", "session_type": "web", "status": "active",
    "token": "svc_…", "token_id": "9d41c07be2a8435f", "credential": "9d41c07be2a8435f", "realm": "content",
    "scopes": "post_office.publish", "rights": "subscribe", "consumer": "0123456789abcdef0123",
    "delivery_id": "guide/01a1f878-2b79-7000-9b65-4b2d23abc2af/1",
    "websocket_url": "ws://127.0.0.1:8000/ws?session_token=tkt_…",
    "code": "forbidden", "kind": "service", "operations": "post_office.list_channels", "refusals": "forbidden",
    "capacity": 10000, "per_second": 200.0, "burst": 400, "resolution_seconds": 60, "address": "192.0.2.7",
    "id": "alice", "attempt": 1, "services": "valkey", "dependencies": "valkey", "service": "smart-city",
    "version": "0.1.0", "from": _MOMENT, "to": _MOMENT, "minutes": _MOMENT,
}  # fmt: skip
_BY_TYPE: Mapping[str, Any] = {"string": "…", "integer": 1, "number": 0.5, "boolean": True, "null": None, "object": {}}
_SELDOM = frozenset({"error", "reason", "retry_after"})
"""Optional fields that say that something went wrong."""


def sample(schema: Schema, name: str = "") -> Any:
    """A value that the schema allows."""
    if "const" in schema or "enum" in schema:
        return schema.get("const", next(iter(schema.get("enum", [])), None))
    if "anyOf" in schema:
        return sample(next(option for option in schema["anyOf"] if option.get("type") != "null"), name)
    kind = schema.get("type", "object")
    if kind == "array":
        return [sample(schema.get("items", {}), name)]
    if kind == "object" and (schema.get("properties") or isinstance(schema.get("additionalProperties"), dict)):
        return _object(schema, name)
    found = _BY_NAME.get(name, _MOMENT if name.endswith("_at") else None)
    return found if _fits(found, kind) else _BY_TYPE[kind]


def _object(schema: Schema, name: str) -> dict[str, Any]:
    if not schema.get("properties"):
        key = _BY_NAME.get(name)
        return {key if isinstance(key, str) else "guide": sample(schema["additionalProperties"], "")}
    required = schema.get("required", ())
    return {
        field: sample(described, field)
        for field, described in schema["properties"].items()
        if field in required or field not in _SELDOM
    }


def _fits(value: Any, kind: str) -> bool:
    kinds: Mapping[str, tuple[type, ...]] = {
        "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "object": (dict,),
    }  # fmt: skip
    return isinstance(value, kinds.get(kind, ()))
