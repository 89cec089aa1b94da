"""The simulated storm: what a queue must do, whatever the figures are."""

from __future__ import annotations

import math
from dataclasses import replace

from benchmarks.storms import Storm, simulate

CALM = Storm(clients=1000, instances=1, a_second=10_000, store_a_second=100_000)


def test_with_room_for_all_everybody_is_back_within_the_first_back_off() -> None:
    outcome = simulate(CALM)
    assert outcome.most_seconds <= 0.5
    assert outcome.refusals == 0


def test_nobody_comes_back_faster_than_they_are_admitted() -> None:
    outcome = simulate(replace(CALM, clients=50_000))
    assert outcome.most_seconds >= 0.99 * 50_000 / 10_000
    assert outcome.half_seconds < outcome.most_seconds


def test_twice_the_instances_take_half_the_time() -> None:
    one, two = (simulate(replace(CALM, clients=80_000, instances=count)).most_seconds for count in (1, 2))
    assert math.isclose(one, 2 * two, rel_tol=0.1)


def test_the_store_is_shared_by_all_instances() -> None:
    outcome = simulate(replace(CALM, clients=50_000, instances=10, store_a_second=10_000))
    assert outcome.most_seconds >= 0.99 * 50_000 / 10_000


def test_who_waits_longer_than_a_handshake_may_is_refused_and_comes_again() -> None:
    outcome = simulate(replace(CALM, clients=50_000, a_second=1_000))
    assert outcome.refusals > 0
    assert 50 < outcome.most_seconds < 300
    assert simulate(replace(CALM, clients=50_000, a_second=1_000, patience_seconds=100)).refusals == 0
