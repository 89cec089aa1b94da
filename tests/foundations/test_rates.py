"""Rates as they are written, and which of two allows less."""

from __future__ import annotations

import pytest

from foundations.rates import Rate


def test_a_rate_reads_as_it_is_written() -> None:
    assert Rate.parse("50/100") == Rate(50, 100)
    assert Rate.parse("0.5/3") == Rate(0.5, 3)
    assert [str(Rate.parse(text)) for text in ("50/100", "0.5/3")] == ["50/100", "0.5/3"]


@pytest.mark.parametrize("text", ["", "50", "50/", "/100", "0/100", "50/0", "-1/5", "5/1.5", "1e3/5", "50/100 "])
def test_anything_else_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="50/100"):
        Rate.parse(text)


def test_what_is_within_both_is_within_each() -> None:
    one, other = Rate(5, 100), Rate(50, 10)
    assert not one.within(other)
    assert not other.within(one)
    assert one.narrowed(other) == Rate(5, 10)
    assert one.narrowed(other).within(one)
    assert one.narrowed(other).within(other)
    assert one.narrowed(None) is one
