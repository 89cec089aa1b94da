"""Frames as server-sent events."""

from __future__ import annotations

import json

import pytest

from smart_city.post_office.gateway import events
from smart_city.post_office.gateway.events import Rendering, events_of
from smart_city.post_office.gateway.messages import positioned, wire
from smart_city.vocabulary import Position
from tests.support.event_reader import Event


def test_a_publication_is_unnamed_and_has_its_position_as_id() -> None:
    found = events_of(positioned(b'{"type":"message","channel":"guide"}', 41, "k3f9"))
    assert found.data == b'id: 41.k3f9\ndata: {"type":"message","channel":"guide","offset":41,"epoch":"k3f9"}\n\n'
    assert found.position == Position(41, "k3f9")
    assert found.passing


@pytest.mark.parametrize("size", [0, 200, 70_000], ids=["short", "two bytes of length", "eight bytes of length"])
def test_frames_in_one_piece_become_events_in_their_order(size: int) -> None:
    entries = [json.dumps({"type": "message", "payload": {"pad": "x" * size, "n": n}}).encode() for n in range(3)]
    found = events_of(b"".join(positioned(entry, n, "e") for n, entry in enumerate(entries, 7)))
    read = [Event.parse(block) for block in found.data.decode().split("\n\n")[:-1]]
    assert [(event.id, event.data["payload"]["n"]) for event in read] == [("7.e", 0), ("8.e", 1), ("9.e", 2)]
    assert found.position == Position(9, "e")


def test_a_part_of_an_answer_has_no_position_and_may_be_left_out() -> None:
    found = events_of(wire(b'{"type":"chat_response","stream":"delta","part":3}'))
    assert found.position is None
    assert found.passing
    assert found.data.startswith(b"data: ")


@pytest.mark.parametrize(("kind", "passing"), [("reset", True), ("system", False), ("unsubscribed", False)])
def test_other_frames_are_named_after_their_type(kind: str, passing: bool) -> None:
    found = events_of(wire(b'{"type":"%b"}' % kind.encode()))
    assert found.data.startswith(f"event: {kind}\n".encode())
    assert found.passing is passing


def test_line_breaks_between_tokens_stay_within_one_data_line() -> None:
    assert events.event(b'{\r\n"a":\r1,\n"b":2}') == b'data: { "a": 1, "b":2}\n\n'


def test_the_same_bytes_are_rewritten_once_for_all_readers() -> None:
    frame = positioned(b'{"type":"message"}', 1, "e")
    rendering = Rendering()
    assert rendering(frame) is rendering(frame)
    assert rendering(wire(b'{"type":"reset"}')) is not rendering(frame)
