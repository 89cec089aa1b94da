"""The room for what is held: bounded altogether, and for each user."""

from __future__ import annotations

import pytest

from smart_city.post_office.keep import ENVELOPE_BYTES, Keep

MOST = 100 * ENVELOPE_BYTES


def test_a_user_fills_a_tenth_and_leaves_the_rest_to_others() -> None:
    keep = Keep(MOST)
    assert [keep.take(0, "mallory") for _ in range(11)] == [True] * 10 + [False]
    assert keep.take(0, "alice")
    keep.release(0, "mallory")
    assert keep.take(0, "mallory")
    assert not keep.take(0, "mallory")


def test_how_much_a_user_fills_can_be_set() -> None:
    keep = Keep(MOST, user_share=1)
    assert [keep.take(0, "alice") for _ in range(101)] == [True] * 100 + [False]


def test_one_message_of_a_user_always_may_come_in() -> None:
    keep = Keep(MOST)
    assert keep.take(MOST // 2, "alice")
    assert not keep.take(0, "alice")


@pytest.mark.parametrize("sender", ["", "~content"])
def test_services_and_what_agents_say_share_what_there_is(sender: str) -> None:
    keep = Keep(MOST)
    assert [keep.take(0, sender) for _ in range(101)] == [True] * 100 + [False]


def test_what_was_sent_counts_and_all_that_is_released_makes_room_again() -> None:
    keep = Keep(MOST)
    keep.add(MOST, "alice")
    assert not keep.take(0, "bob")
    keep.release(MOST, "alice")
    assert (keep.messages, keep.bytes) == (0, 0)
    assert [keep.take(0, "alice") for _ in range(10)] == [True] * 10
