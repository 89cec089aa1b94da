"""Frames as they are read and written: what is refused, with which code, and what the bytes look like."""

from __future__ import annotations

import json

import pytest
from msgspec import UNSET

from foundations.errors import RateLimited
from smart_city.post_office.gateway import messages
from smart_city.post_office.gateway.messages import BadFrame, decode


def refused(text: str | bytes) -> BadFrame:
    with pytest.raises(BadFrame) as caught:
        decode(text.encode() if isinstance(text, str) else text)
    return caught.value


def test_a_message_may_leave_out_its_type_its_channel_and_its_intent() -> None:
    frame = decode(b'{"payload": {"message": "hello"}}')
    assert isinstance(frame, messages.Message)
    assert (frame.channel, frame.intent, frame.id, frame.key) == ("guide", "chat", UNSET, UNSET)


def test_a_payload_is_carried_byte_for_byte() -> None:
    frame = decode(b'{"payload": {"a": 1.50,  "b":"\\u00e9"}}')
    assert isinstance(frame, messages.Message)
    assert bytes(frame.payload) == b'{"a": 1.50,  "b":"\\u00e9"}'


@pytest.mark.parametrize(
    "text",
    [
        "", "nonsense", "[]", '"text"', "42", "null", '{"payload": {}', '{"payload": {"a": tru}}',
        '{"payload": {}} {}', "[" * 100_000, '{"payload":' + "[" * 100_000,
        '{"payload": {"half": "\\ud800"}}',
    ],
)  # fmt: skip
def test_what_is_not_one_json_object_is_an_invalid_message(text: str) -> None:
    bad = refused(text)
    assert bad.error.code == "invalid_message"
    assert bad.error.message.startswith("Invalid message format")


@pytest.mark.parametrize(
    "frame",
    [
        {"payload": {}, "chanel": "guide"},
        {"payload": {}, "delivery_id": "x"},
        {"payload": {}, "intent": "shout"},
        {"payload": {}, "key": ""},
        {"payload": {}, "key": "k" * 65},
        {"payload": {}, "channel": 7},
        {"payload": {}, "id": 7},
        {"payload": {}, "id": "i" * 129},
        {"type": "message"},
        {"type": "subscribe", "channels": []},
        {"type": "subscribe", "channels": {}},
        {"type": "subscribe", "channels": {"guide": {"offset": -1, "epoch": "a"}}},
        {"type": "subscribe", "channels": {"guide": {"offset": "1"}}},
        {"type": "subscribe", "channels": {"guide": {"offset": 1, "epoch": "a", "age": 3}}},
        {"type": "unsubscribe", "channels": "guide"},
        {"type": "publish", "payload": {}},
        {"type": "refresh"},
        {"type": "consume", "channel": "guide", "max": -1},
        {"type": "done", "delivery_ids": []},
        {"type": "reply", "delivery_id": "x", "stream": "middle"},
    ],
)
def test_a_frame_with_a_wrong_missing_or_unknown_field_is_refused(frame: dict[str, object]) -> None:
    assert refused(json.dumps(frame)).error.code == "invalid_message"


def test_an_unknown_type_has_a_code_of_its_own_and_names_the_known_ones() -> None:
    bad = refused('{"type": "shout", "id": "f1"}')
    assert (bad.error.code, bad.frame_id) == ("unknown_type", "f1")
    assert "subscribe" in bad.error.message


def test_a_refused_frame_keeps_its_id_when_it_could_be_read() -> None:
    assert refused('{"payload": {}, "surplus": 1, "id": "f9"}').frame_id == "f9"
    assert refused('{"type": 7, "id": "f9"}').frame_id == "f9"
    assert refused('{"payload": {}, "id": 9}').frame_id == ""
    assert refused('{"type": 7, "id": "%s"}' % ("i" * 129)).frame_id == ""


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
def test_a_text_frame_has_the_header_that_its_length_asks_for(size: int) -> None:
    framed = messages.wire(b"x" * size)
    if size < 126:
        header = bytes((0x81, size))
    elif size < 65_536:
        header = b"\x81\x7e" + size.to_bytes(2, "big")
    else:
        header = b"\x81\x7f" + size.to_bytes(8, "big")
    assert framed == header + b"x" * size


def test_a_logged_publication_gets_its_position_at_the_end() -> None:
    frame = messages.positioned(b'{"type":"message","payload":{}}', 41, "k3f9")
    assert json.loads(frame[2:]) == {"type": "message", "payload": {}, "offset": 41, "epoch": "k3f9"}


def test_an_error_frame_says_what_the_error_knows() -> None:
    frame = messages.error_frame(RateLimited("slower", retry_after=0.25), "f1", "guide/m/1")
    assert json.loads(frame[4:] if frame[1] == 126 else frame[2:]) == {
        "type": "error", "code": "rate_limited", "message": "slower", "retryable": True, "retry_after": 0.25,
        "id": "f1", "delivery_id": "guide/m/1",
    }  # fmt: skip


@pytest.mark.parametrize("size", [0, 100, 126, 200, 65_536, 70_000])
def test_frames_of_every_length_are_found_one_after_the_other(size: int) -> None:
    texts = [b"a" * size, b"", b"b" * size, b"c"]
    assert list(messages.texts_of(b"".join(messages.wire(text) for text in texts))) == texts
