"""Numbers that nobody can read are found, and nothing else is."""

from __future__ import annotations

import pytest

from foundations.json_numbers import has_unreadable_number


@pytest.mark.parametrize(
    "text", ['{"a": 1e999}', '{"a": [-1E+400]}', '{"a": %s}' % ("9" * 5000), '{"a": 1e308, "b": 1e309}']
)
def test_a_number_beyond_a_double_is_found(text: str) -> None:
    assert has_unreadable_number(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1e308}',
        '{"a": 1e-999}',
        '{"a": "1e999"}',
        '{"a": "%s"}' % ("9" * 5000),
        '{"a": %s}' % ("9" * 310),
        '{"a": "1e999',
        "",
        "{}",
    ],
)
def test_what_can_be_read_or_is_no_json_is_not(text: str) -> None:
    assert not has_unreadable_number(text.encode())
