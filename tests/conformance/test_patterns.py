"""What a pattern matches, what it binds, and what it says when it does not match."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.client_frames import checked
from tests.conformance.encodings import read, write
from tests.conformance.patterns import Mismatch, fill, match


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ("text", "text"), (1, 1), (None, None), ({}, {"a": 1}), ({"a": 1}, {"a": 1, "b": 2}), ([1, "<any>"], [1, {}]),
        ({"a": "<absent>"}, {"b": 1}), ("<any>", None), ("<string>", "x"), ("<offset>", 0), ("<number>", 1.5),
        ("<boolean>", False), ("<object>", {}), ("<array>", []), ("<time>", "2026-11-20T08:00:00.000Z"),
        ("<uuid>", "0193d5a0-0000-7000-8000-000000000000"), ("<starts Invalid>", "Invalid message"),
        ("<one of a|b c>", "b c"), ("<=known>", 41), ("<=known+1>", 42), ("x:<=name>", "x:n"),
        ({"c:<=name>": 1}, {"c:n": 1}),
    ],
)  # fmt: skip
def test_a_value_that_fits(pattern: Any, value: Any) -> None:
    match(pattern, value, {"known": 41, "name": "n"})


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ("text", "texts"), (1, True), (True, 1), (0, False), ({"a": 1}, {}), ({"a": 1}, [1]), ([1], [1, 2]), ([1], 1),
        ({"a": "<absent>"}, {"a": None}), ("<string>", ""), ("<string>", 1), ("<offset>", -1), ("<offset>", True),
        ("<offset>", 1.0), ("<number>", "1"), ("<time>", "2026-11-20"), ("<uuid>", "x"), ("<starts a>", "b"),
        ("<one of a|b>", "c"), ("<=known>", 40), ("<=unknown>", 1), ("<nonsense>", "x"), ("x:<=name>", "x:m"),
    ],
)  # fmt: skip
def test_a_value_that_does_not(pattern: Any, value: Any) -> None:
    with pytest.raises(Mismatch):
        match(pattern, value, {"known": 41, "name": "n"})


def test_a_value_is_bound_and_used_later() -> None:
    bound: dict[str, Any] = {}
    match({"id": "<string id>", "offset": "<offset start>"}, {"id": "c1", "offset": 7}, bound)
    assert bound == {"id": "c1", "start": 7}
    assert fill({"x:<=id>": ["<=start>", "<=start+2>", "at <=start>"]}, bound) == {"x:c1": [7, 9, "at 7"]}


def test_bytes_are_bytes_in_msgpack_and_nothing_else() -> None:
    frame = {"payload": {"a": {"$bytes": "AP8="}}}
    packed = write(frame, "msgpack")
    assert isinstance(packed, bytes)
    assert b"\xc4\x02\x00\xff" in packed
    assert read(packed, "msgpack") == frame
    with pytest.raises(Mismatch):
        read(b"\x81\xa7payload\x81\xa6$bytes\xa0", "msgpack")


@pytest.mark.parametrize(("data", "encoding"), [("{}", "msgpack"), (b"\x80", "json"), ("[]", "json"), ("{", "json")])
def test_what_is_no_frame_of_the_encoding_is_a_mismatch(data: str | bytes, encoding: str) -> None:
    with pytest.raises(Mismatch):
        read(data, encoding)


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "shout"}, {"type": "subscribe"}, {"payload": {}, "surplus": 1}, {"payload": []},
        {"payload": {}, "id": "i" * 129}, {"payload": {}, "key": ""}, {"type": "ping", "payload": {}},
    ],
)  # fmt: skip
def test_a_frame_that_no_server_takes_is_a_mismatch(frame: dict[str, Any]) -> None:
    with pytest.raises(Mismatch):
        checked(frame)


def test_what_a_message_may_leave_out_is_filled_in() -> None:
    assert checked({"payload": {}}) == {"payload": {}, "type": "message", "channel": "guide", "intent": "chat"}
