"""When connections are written again: each has its turn, few have the same, and all have it at once where needed."""

from __future__ import annotations

from collections import Counter

from smart_city.post_office.fleet.renewal import Renewal
from tests.support.platform import unique

NAMES = {name: name for name in (unique("c") for _ in range(2000))}


def test_in_one_cycle_everything_has_its_turn_once_and_no_turn_has_much() -> None:
    renewal = Renewal(lease_seconds=5, cycle_seconds=48)
    turns = [renewal.due(NAMES, ()) for _ in range(16)]
    assert Counter(name for turn in turns for name in turn) == Counter(dict.fromkeys(NAMES, 1))
    assert max(len(turn) for turn in turns) < 2 * len(NAMES) / 16


def test_what_is_stale_does_not_wait_for_its_turn() -> None:
    renewal, stale = Renewal(lease_seconds=5, cycle_seconds=48), set(list(NAMES)[:40])
    for _ in range(16):
        assert stale <= set(renewal.due(NAMES, stale))


def test_with_a_cycle_shorter_than_a_lease_every_turn_is_everybodys() -> None:
    renewal = Renewal(lease_seconds=5, cycle_seconds=1)
    assert set(renewal.due(NAMES, ())) == set(NAMES)


def test_after_an_absence_the_next_turn_is_everybodys() -> None:
    renewal = Renewal(lease_seconds=5, cycle_seconds=48)
    renewal.renew_all()
    assert set(renewal.due(NAMES, ())) == set(NAMES)
