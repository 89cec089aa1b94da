"""What a client may say: the fields of each of its frames. The server refuses every other one.

A table for the runner alone; a test holds it against the server's own structs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.conformance.patterns import Mismatch

DEFAULTS: Mapping[str, Any] = {"type": "message", "channel": "guide", "intent": "chat"}
"""What may be left out of a message."""
FIELDS: Mapping[str, tuple[str, str]] = {
    "message": ("payload", "channel intent key"),
    "subscribe": ("channels", ""),
    "unsubscribe": ("channels", ""),
    "publish": ("channel payload", "intent key"),
    "refresh": ("session_token", ""),
    "ping": ("", ""),
    "consume": ("channel", "max"),
    "done": ("delivery_ids", ""),
    "failed": ("delivery_id", "reason retry"),
    "working": ("delivery_id", ""),
    "reply": ("delivery_id", "payload intent stream"),
    "forward": ("delivery_id channel", ""),
    "stop": ("message_id", ""),
}
"""By type: the fields that must be there, and those that may; ``type`` and ``id`` may be in every one."""


def checked(frame: dict[str, Any]) -> dict[str, Any]:
    """A client's frame with what it has left out.

    Raises:
        Mismatch: the server would refuse it.
    """
    kind = frame.get("type", "message")
    if kind not in FIELDS:
        raise Mismatch(f"the server knows no type {kind!r}")
    needed, allowed = (set(names.split()) for names in FIELDS[kind])
    if missing := needed - frame.keys():
        raise Mismatch(f"a {kind} needs {', '.join(sorted(missing))}")
    if unknown := frame.keys() - needed - allowed - {"type", "id"}:
        raise Mismatch(f"a {kind} has no {', '.join(sorted(unknown))}")
    if not isinstance(frame.get("payload", {}), dict):
        raise Mismatch("a payload is an object")
    if len(str(frame.get("id", ""))) > 128 or not 0 < len(frame.get("key", "k")) <= 64:
        raise Mismatch("an id has at most 128 characters, a key 1 to 64")
    return {**(DEFAULTS if kind == "message" else {}), **frame}
