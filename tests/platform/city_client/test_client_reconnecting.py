"""Back-off and close codes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from city_client.reconnecting import Backoff, Return, after_close


def test_ceilings_double_from_half_a_second_to_twenty() -> None:
    backoff = Backoff(lambda floor, ceiling: ceiling)
    assert [backoff.next() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 20, 20]
    assert backoff.attempt == 8
    backoff.reset()
    assert (backoff.next(), backoff.attempt) == (0.5, 1)


@given(st.integers(0, 5000))
def test_delays_stay_between_nothing_and_twenty_seconds_however_long_it_takes(attempt: int) -> None:
    backoff = Backoff()
    backoff.attempt = attempt
    assert 0 <= backoff.next() <= 20


@given(st.integers(1000, 4999))
def test_a_client_comes_back_after_every_close_but_the_final_ones(code: int) -> None:
    assert (after_close(code) is None) == (code == 1000 or 4500 <= code <= 4999)


def test_a_takeover_is_not_resumed_and_a_drain_is_left_at_once() -> None:
    assert after_close(4010) == Return(resume=False)
    assert after_close(1012) == Return(at_once=True)


def test_a_full_instance_is_left_alone_for_as_long_as_it_says_but_not_for_ever() -> None:
    assert after_close(1013, "full; retry_after=7.5") == Return(wait=7.5)
    assert after_close(1013, "retry_after=soon") == Return()
    assert after_close(1013, "retry_after=99999999") == Return(wait=600.0)
    assert after_close(1006, "retry_after=7") == Return()
