"""Which frame of the AsyncAPI document a frame is, and whether it is as described there, to the last field."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema_rs

Frame = dict[str, Any]


class FrameSchemas:
    """The schemas of a document, strict: a field that is not described is an error."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._schemas = copy.deepcopy(document["components"]["schemas"])
        for schema in self._schemas.values():
            if "properties" in schema:
                schema["additionalProperties"] = False
        self.seen: set[str] = set()

    def check(self, name: str, frame: Any) -> None:
        """Holds a frame against the schema of this name."""
        whole = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": self._schemas}}
        jsonschema_rs.Draft202012Validator(whole).validate(frame)

    def recognise(self, frame: Frame, *, is_event: bool = False) -> str:
        """The name of a frame to a client, which must be as described."""
        name = _name_of(frame, is_event=is_event)
        self.check(name, frame)
        self.seen.add(name)
        return name


def _name_of(frame: Frame, *, is_event: bool) -> str:
    kind = frame["type"]
    if kind == "system":
        return {"welcome": "Welcome", "session_expiring": "SessionExpiring"}[frame["event"]]
    if kind == "ack" and is_event:
        return "Opened"
    if kind == "ack" and "channels" in frame:
        return "Subscribed"
    return {"message": "Publication", "stop": "Stopped"}.get(
        kind, "".join(word.capitalize() for word in kind.split("_"))
    )
