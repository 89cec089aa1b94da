"""Envelopes: ids and times, and what tells a payload from another one, however it is written."""

from __future__ import annotations

import json
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from smart_city.post_office.envelopes import (
    Letterhead,
    QuestionForm,
    Sender,
    agent_message,
    canonical,
    new_message_id,
    publication,
    timestamp,
)


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


def test_message_ids_are_uuids_of_this_moment_that_grow() -> None:
    before = time.time_ns() // 1_000_000
    ids = [new_message_id() for _ in range(20_000)]
    assert ids == sorted(set(ids))
    for one in (uuid.UUID(ids[0]), uuid.UUID(ids[-1])):
        assert (one.version, one.variant) == (7, uuid.RFC_4122)
        assert 0 <= (one.int >> 80) - before < 10_000


def test_message_ids_grow_also_in_a_millisecond_with_thousands_and_when_the_clock_is_set_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = time.time_ns()
    first = new_message_id()
    monkeypatch.setattr(time, "time_ns", lambda: now - 10**9)
    ids = [first, *[new_message_id() for _ in range(10_000)]]
    assert ids == sorted(set(ids))
    assert len({one[-17:] for one in ids}) >= 3, "each millisecond has bits of its own"


def test_timestamps_are_of_this_moment_to_the_millisecond() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    written = timestamp()
    assert len(written) == len("2026-11-20T16:00:00.000Z")
    assert before <= datetime.fromisoformat(written) <= datetime.now(UTC)


@pytest.mark.parametrize("name", ["content", 'a"payload":,"message_id":""b', "ä,\\"])
def test_a_letterhead_makes_the_same_bytes_as_a_publication_alone(name: str) -> None:
    sender, trace = Sender(kind="service", id=name), "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    made = Letterhead(sender, trace).publication(name, b'{"n":1}', "m1")
    alone = publication(channel=name, sender=sender, payload=b'{"n":1}', message_id="m1", traceparent=trace)
    when = len('"timestamp":"2026-11-20T17:00:00.000Z"')
    for each, other in ((made, alone), (alone, made)):
        head, _, tail = each.partition(b'"timestamp"')
        assert other.startswith(head) and other.endswith(tail[when - len('"timestamp"') :])
    assert msgspec.json.decode(made)["sender"]["id"] == name


@pytest.mark.parametrize("odd", ["", "content", 'a"payload":,"message_id":""b', ',"timestamp":"', "ä,\\"])
def test_a_form_makes_the_same_bytes_as_a_question_alone(odd: str) -> None:
    sender, trace, context = Sender(kind="user", id=odd), "00-" + "1" * 32 + "-" + "2" * 16 + "-01", {"timestamp": odd}
    alike: dict[str, Any] = {
        "channel": "guide", "sender": sender, "intent": "chat", "context": context, "conversation_id": odd
    }  # fmt: skip
    made = QuestionForm(**alike).question(b'{"n":1}', "m1", trace)
    alone = agent_message(**alike, payload=b'{"n":1}', message_id="m1", traceparent=trace)
    when = len('"2026-11-20T17:00:00.000Z"')
    for each, other in ((made, alone), (alone, made)):
        head, stamp, tail = each.rpartition(b'"timestamp":')
        assert other.startswith(head + stamp) and other.endswith(tail[when:])
    assert msgspec.json.decode(made)["context"] == context
