"""Valkey's replies in text: as redis-cli writes them for people, plain, and as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from city_hall.commands.replies import as_json, as_text

REPLIES: list[tuple[Any, str, str, Any]] = [
    (b"OK", "OK", "OK", "OK"),
    (b"text", '"text"', "text", "text"),
    ('"ü"\n'.encode(), '"\\"ü\\"\\n"', '"ü"\n', '"ü"\n'),
    (b"\xff\x00a", '"\\xff\\x00a"', "\udcff\x00a", {"$bytes": "/wBh"}),
    (7, "(integer) 7", "7", 7),
    (1.5, "(double) 1.5", "1.5", 1.5),
    (True, "(true)", "true", True),
    (None, "(nil)", "", None),
    ([], "(empty array)", "", []),
    ([b"a", [1, None]], '1) "a"\n2) 1) (integer) 1\n   2) (nil)', "a\n1\n", ["a", [1, None]]),
    ({b"k": b"v", b"n": [1]}, '1# "k" => "v"\n2# "n" => 1) (integer) 1', "k\nv\nn\n1", {"k": "v", "n": [1]}),
    ({b"k": [1, 2]}, '1# "k" =>\n   1) (integer) 1\n   2) (integer) 2', "k\n1\n2", {"k": [1, 2]}),
    ({b"one"}, '1~ "one"', "one", ["one"]),
]


@pytest.mark.parametrize(("reply", "people", "plain", "document"), REPLIES)
def test_a_reply_is_written_in_three_ways(reply: Any, people: str, plain: str, document: Any) -> None:
    assert as_text(reply, for_people=True) == people
    assert as_text(reply, for_people=False) == plain
    assert json.loads(as_json(reply)) == document


def test_the_numbers_of_many_stand_below_one_another() -> None:
    lines = as_text([b"x"] * 10, for_people=True).splitlines()
    assert (lines[0], lines[9]) == (' 1) "x"', '10) "x"')
