"""What a feed has just sent: found by position, without a hole, and never more than a bound."""

from __future__ import annotations

from smart_city.post_office.gateway.recent import RECENT_BYTES, Recent
from smart_city.vocabulary import Position


def test_frames_after_any_recent_position_are_found() -> None:
    recent = Recent(Position(3, "a"))
    recent.add(4, "a", [b"4", b"5"])
    recent.add(6, "b", [b"6"])
    assert recent.after(Position(3, "a")) == [b"4", b"5", b"6"]
    assert recent.after(Position(5, "a")) == [b"6"]
    assert recent.after(Position(6, "b")) == []


def test_a_position_that_the_feed_was_not_at_is_not_found() -> None:
    recent = Recent(Position(3, "a"))
    recent.add(4, "a", [b"4"])
    for position in (Position(2, "a"), Position(5, "a"), Position(4, "b"), Position(3, ""), Position(0, "")):
        assert recent.after(position) is None


def test_the_oldest_frames_leave_when_there_are_too_many() -> None:
    recent = Recent(Position(0, "a"))
    for offset in range(1, 11):
        recent.add(offset, "a", [b"x" * (RECENT_BYTES // 4)])
    assert recent.after(Position(5, "a")) is None
    assert recent.after(Position(6, "a")) == [b"x" * (RECENT_BYTES // 4)] * 4
    recent.add(11, "a", [b"y" * (2 * RECENT_BYTES)])
    assert (recent.after(Position(10, "a")), recent.after(Position(11, "a"))) == (None, [])
    recent.add(12, "a", [b"z"])
    assert recent.after(Position(11, "a")) == [b"z"]


def test_where_no_frame_led_nothing_is_found_behind() -> None:
    recent = Recent(Position(0, "a"))
    recent.add(1, "a", [b"1"])
    recent.restart(Position(7, "b"))
    assert (recent.after(Position(1, "a")), recent.after(Position(7, "b"))) == (None, [])
