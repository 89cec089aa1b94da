"""What not every reader can take is found, and nothing else is."""

from __future__ import annotations

import msgspec
import pytest

from foundations.json_bounds import MOST_DEPTH, TOO_DEEP, why_unreadable


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1e999}',
        '{"a": [-1E+400]}',
        '{"a": %s}' % ("9" * 5000),
        '{"a": 1e308, "b": 1e309}',
        '{"a":%s}' % ("9" * 309),
        '{"a": [1,-%s]}' % ("1" * 1000),
        "[\n%s]" % ("2" + "0" * 308),
        "9" * 310,
    ],
)
def test_a_number_beyond_a_double_is_found(text: str) -> None:
    assert "range" in why_unreadable(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1e308}',
        '{"a": 1e-999}',
        '{"a": "1e999"}',
        '{"a": "%s"}' % ("9" * 5000),
        '{"a": %s}' % ("9" * 308),
        '{"a": %s}' % ("1" + "0" * 308),
        '{"a": "b, %s"}' % ("9" * 400),
        '{"a": 0.%s}' % ("9" * 400),
        '{"a": %se-999}' % ("9" * 400),
        '{"a": 1e-%s}' % ("9" * 400),
        '{"a": "1e999',
        "",
        "{}",
    ],
)
def test_what_can_be_read_or_is_no_json_is_not(text: str) -> None:
    assert why_unreadable(text.encode()) == ""


def nested(depth: int) -> bytes:
    return b'{"a":' * (depth // 2) + b"[" * (depth - depth // 2) + b"]" * (depth - depth // 2) + b"}" * (depth // 2)


def test_nesting_is_bounded() -> None:
    assert why_unreadable(nested(MOST_DEPTH)) == ""
    assert "deep" in why_unreadable(nested(MOST_DEPTH + 1))
    assert "deep" in why_unreadable(nested(100_000))


def test_brackets_side_by_side_or_in_strings_are_no_nesting() -> None:
    assert why_unreadable(b'{"a": [' + b"[],{}," * 500 + b"1]}") == ""
    assert why_unreadable(b'{"a": "' + b'[{\\"' * 500 + b'"}') == ""


def test_a_string_without_an_end_is_read_once_and_not_from_each_of_its_quotes() -> None:
    """The square of a megabyte would hold the event loop for hours."""
    assert "deep" in why_unreadable(b'{"a":' + b"[" * (MOST_DEPTH + 1) + b'"' + b'\\"' * 500_000)


@pytest.mark.parametrize("text", [r"\\", r"\"", r"\\\"", r"\"\\", r"a\\\\", r"\n\"[[["])
def test_strings_end_where_they_end_whatever_they_escape(text: str) -> None:
    assert msgspec.json.decode(f'"{text}"')
    within = f'["{text}",' * (MOST_DEPTH - 1)
    assert why_unreadable((within + "[]" + "]" * (MOST_DEPTH - 1)).encode()) == ""
    assert why_unreadable((within + "[[]]" + "]" * (MOST_DEPTH - 1)).encode()) == TOO_DEEP
