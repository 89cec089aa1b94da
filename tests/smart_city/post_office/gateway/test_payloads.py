"""What is read of a payload: whether everybody can, which conversation it is of, and whether it is the same again."""

from __future__ import annotations

import json

import pytest
from msgspec import Raw

from foundations.errors import InvalidMessage
from smart_city.post_office.gateway.payloads import canonical, conversation_of, read


def of(text: str) -> bytes:
    return canonical(read(Raw(text.encode())))


@pytest.mark.parametrize(
    "payload", ["[]", '"text"', "1", "null", '{"a": 1e999}', '{"a":' * 101 + "1" + "}" * 101, '{"a": "\\ud800"}']
)
def test_a_payload_is_an_object_that_everybody_can_read(payload: str) -> None:
    with pytest.raises(InvalidMessage, match=r"^Invalid message format"):
        read(Raw(payload.encode()))


def test_the_conversation_is_read_from_the_payload() -> None:
    assert conversation_of({"conversation_id": "c1", "x": [1]}) == "c1"
    assert conversation_of({"x": 1}) == ""
    assert conversation_of({"conversation_id": ""}) == ""


@pytest.mark.parametrize("wrong", [5, None, {}, "c" * 129])
def test_a_conversation_is_a_short_string(wrong: object) -> None:
    with pytest.raises(InvalidMessage):
        conversation_of({"conversation_id": wrong})


def test_the_same_payload_is_the_same_however_it_is_written() -> None:
    value = {"b": [1, 2.5, {"é": None}], "a": "ü\n"}
    ways = [
        json.dumps(value),
        json.dumps(value, indent=2),
        json.dumps(value, ensure_ascii=False, separators=(",", ":")),
        json.dumps(value, sort_keys=True),
    ]
    assert len({of(way) for way in ways}) == 1


@pytest.mark.parametrize("other", ['{"a": 2}', '{"a": "1"}', '{"a": [1]}', '{"a": 1, "b": null}', "{}", '{"a": true}'])
def test_another_payload_is_another(other: str) -> None:
    assert of(other) != of('{"a": 1}')
