"""Values of the hub: what a subscriber knows of open answers, runs of epochs, and when frames are remembered."""

from __future__ import annotations

import pytest

from smart_city.post_office.gateway.feed import Feed, Snapshots, by_epoch
from smart_city.post_office.log import Page
from smart_city.post_office.log.bus import Delta
from smart_city.vocabulary import Position
from tests.support.hubs import Nobody


def delta(message_id: str, part: int) -> Delta:
    return Delta(message_id, part, b"")


# Snapshots


def test_parts_before_the_snapshot_are_left_out_and_later_ones_pass() -> None:
    snapshots = Snapshots()
    assert not snapshots.admits(delta("a", 3))
    assert snapshots.settle({"a": 4})
    assert [snapshots.admits(delta("a", part)) for part in (3, 4, 5)] == [False, False, True]


def test_a_snapshot_that_does_not_reach_what_was_left_out_is_taken_again() -> None:
    snapshots = Snapshots()
    snapshots.admits(delta("a", 5))
    assert not snapshots.settle({"a": 4})
    assert not snapshots.admits(delta("a", 6))
    assert not snapshots.settle({"a": 5})
    assert snapshots.settle({"a": 6})
    assert snapshots.admits(delta("a", 7))


def test_an_answer_that_ended_before_the_snapshot_does_not_hold_it_up_for_ever() -> None:
    snapshots = Snapshots()
    snapshots.admits(delta("ended", 5))
    assert not snapshots.settle({})
    assert snapshots.settle({})


def test_an_answer_that_began_after_the_snapshot_is_heard_from_its_first_part() -> None:
    snapshots = Snapshots()
    assert snapshots.settle({"old": 7})
    assert [snapshots.admits(delta("new", part)) for part in (1, 2)] == [True, True]


# Epochs


def page(chain: tuple[tuple[str, int], ...], since: int, number: int) -> Page:
    entries = tuple(b"%d" % offset for offset in range(since + 1, since + number + 1))
    return Page(chain, Position(since + number), 1, since, True, "", entries, ())


@pytest.mark.parametrize(
    ("chain", "since", "number", "runs"),
    [
        ((("a", 1),), 0, 3, [(1, "a", 3)]),
        ((("a", 1),), 5, 0, []),
        ((("a", 1), ("b", 4)), 1, 4, [(2, "a", 2), (4, "b", 2)]),
        ((("a", 1), ("b", 4)), 3, 2, [(4, "b", 2)]),
        ((("a", 1), ("b", 4)), 0, 3, [(1, "a", 3)]),
        ((("a", 1), ("b", 3), ("c", 3), ("d", 5)), 0, 6, [(1, "a", 2), (3, "c", 2), (5, "d", 2)]),
        ((("b", 4), ("c", 6)), 1, 6, [(2, "b", 2), (4, "b", 2), (6, "c", 2)]),
    ],
)
def test_a_page_falls_into_runs_of_one_epoch_each(
    chain: tuple[tuple[str, int], ...], since: int, number: int, runs: list[tuple[int, str, int]]
) -> None:
    found = list(by_epoch(page(chain, since, number)))
    assert [(first, epoch, len(entries)) for first, epoch, entries in found] == runs
    for first, _, entries in found:
        assert list(entries) == [b"%d" % offset for offset in range(first, first + len(entries))]


# What a feed remembers


def test_frames_are_remembered_while_somebody_catches_up_and_no_longer() -> None:
    feed = Feed("guide", Nobody(), position=Position(4, "a"))
    with feed.remembered() as first:
        with feed.remembered() as second:
            assert first is second is feed.recent
        assert feed.recent is first
        first.add(5, "a", [b"5"])
        assert first.after(Position(4, "a")) == [b"5"]
    assert feed.recent is None


def test_a_feed_that_jumps_forgets_how_it_got_where_it_was() -> None:
    feed = Feed("guide", Nobody(), position=Position(4, "a"))
    feed.jump(Position(5, "a"))
    with feed.remembered() as recent:
        recent.add(6, "a", [b"6"])
        feed.position = Position(6, "a")
        feed.jump(Position(6, "a"))
        assert recent.after(Position(5, "a")) == [b"6"]
        feed.jump(Position(2, "b"))
        assert (recent.after(Position(5, "a")), recent.after(Position(2, "b"))) == (None, [])


def test_answers_may_be_open_where_a_part_was_heard_or_something_was_said_in_a_private_log() -> None:
    assert not Feed("user:ann", Nobody(), opened_at=Position(3, "a"), position=Position(3, "a")).may_have_streams
    assert Feed("user:ann", Nobody(), opened_at=Position(3, "a"), position=Position(4, "a")).may_have_streams
    assert not Feed("guide", Nobody(), opened_at=Position(3, "a"), position=Position(4, "a")).may_have_streams
    assert Feed("guide", Nobody(), has_streams=True).may_have_streams
