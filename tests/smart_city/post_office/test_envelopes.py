"""Envelopes: what tells a payload from another one, however it is written."""

from __future__ import annotations

import json

import msgspec
import pytest

from smart_city.post_office.envelopes import canonical


def of(text: str) -> bytes:
    return canonical(msgspec.json.decode(text))


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
