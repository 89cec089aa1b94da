"""The shapes that the contract fixes, as checks which say what is not as it should be. It sends nothing."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import httpx2

Frame = dict[str, Any]

UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def problem(response: httpx2.Response, status: int, code: str) -> Frame:
    """The body of a refusal, which is an RFC 9457 problem and what the seeds' clients expect."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: Frame = response.json()
    assert body["code"] == code, body
    assert body["status"] == status
    assert isinstance(body["type"], str) and body["type"]
    assert isinstance(body["title"], str) and body["title"]
    assert isinstance(body["detail"], str) and body["detail"]
    assert isinstance(body["retryable"], bool)
    assert body["success"] is False
    assert body["error"] == body["detail"]
    return body


def fields(refusal: Frame) -> set[str]:
    """The first parts of the names of the fields that a refusal's ``errors`` name."""
    return {str(error["field"]).split(".")[0] for error in refusal["errors"]}


def position(value: Frame) -> Frame:
    """The position in a frame or a result, as a subscribe wants it."""
    assert isinstance(value["offset"], int)
    assert isinstance(value["epoch"], str)
    return {"offset": value["offset"], "epoch": value["epoch"]}


def text_of(value: Frame) -> str:
    """The position in a frame or a result, as text."""
    return f"{value['offset']}.{value['epoch']}"


def has_only(value: Frame, needed: Collection[str], allowed: Collection[str] = ()) -> None:
    """A frame or a result has these fields, perhaps those, and nothing else that is not ``success``."""
    given = set(value) - {"success"}
    assert given >= set(needed), f"lacks {set(needed) - given}: {value}"
    assert given <= {*needed, *allowed}, f"has {given - {*needed, *allowed}}: {value}"


def is_publication(value: Frame) -> None:
    """A frame of type ``message`` as section 4 gives it."""
    has_only(
        value,
        {"type", "channel", "sender", "payload", "message_id", "offset", "epoch", "timestamp"},
        {"intent", "in_reply_to", "provisional", "traceparent"},
    )
    assert value["type"] == "message"
    assert value["sender"]["kind"] in {"user", "agent", "service"}
    assert set(value["sender"]) <= {"kind", "id", "name"}
    assert isinstance(value["payload"], dict)
    assert UUID7.fullmatch(value["message_id"])
    assert TIMESTAMP.fullmatch(value["timestamp"])
