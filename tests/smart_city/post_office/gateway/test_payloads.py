"""What is read of a payload: whether everybody can, and which conversation it is of."""

from __future__ import annotations

import pytest
from msgspec import Raw

from foundations.errors import InvalidMessage
from smart_city.post_office.gateway.payloads import conversation_of, read


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
