"""Capacity: what is derived from costs, and that the page about scaling says what the results say."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.capacity import BEGIN, END, PAGE, part, rounded, storms_of, written
from benchmarks.catalogue import CASES
from benchmarks.costs import Cost, Costs, NotMeasured, Results, read_costs
from benchmarks.plans import MOST_CONNECTIONS, most_instances, plan

COSTS = Costs(
    delivery=Cost(8, 0.02), delivery_in_bursts=Cost(0.2, 0.005), publication=Cost(300, 40),
    publication_in_batches=Cost(10, 4), publication_on_socket=Cost(15, 5), question=Cost(15, 15),
    answered_question=Cost(400, 120), connecting=Cost(300, 80), resuming=Cost(600, 120), idle_second=Cost(2, 1),
    idle_second_on_cluster=Cost(3, 1.5), idle_bytes=Cost(13000, 1300), session_bytes=800,
    beats={1: Cost(50, 20), 100: Cost(1000, 200), 1000: Cost(10000, 2000)}, delivery_bytes=480,
)  # fmt: skip
MILLION = 1_000_000


def results(folder: Path, *, but: str = "") -> Results:
    """Results in which every figure of every case is 7, of all cases or all but one."""
    for case in CASES:
        if case.name != but:
            figures = {figure.name: 7.0 for figure in case.figures}
            rounds = [None, figures | {"connect": 7.5}, figures]
            told = {"subjects": {case.subjects[0]: {"rounds": rounds}}}
            (folder / f"{case.name}.json").write_text(json.dumps(told))
    return Results(folder)


def test_the_page_about_scaling_says_what_was_measured() -> None:
    assert part(Results()) in PAGE.read_text(), "run `python -m benchmarks.capacity`"


def test_costs_are_the_medians_of_results(tmp_path: Path) -> None:
    costs = read_costs(results(tmp_path))
    assert costs.question == Cost(7, 7)
    assert costs.connecting == Cost(7.25, 7)
    assert set(costs.beats) == {1, 100, 1000}


def test_all_of_it_can_be_told(tmp_path: Path) -> None:
    told = part(results(tmp_path))
    assert told.startswith(BEGIN)
    assert told.endswith(END)
    assert "| a question into an inbox, 20 in flight | 7.0 | 7.0 | 140 000 | 140 000 |" in told


@pytest.mark.parametrize("missing", ["fan_out_paced", "idle_cluster", "fleet"])
def test_what_was_not_measured_is_named_and_nothing_is_told(tmp_path: Path, missing: str) -> None:
    without = results(tmp_path, but=missing)
    with pytest.raises(NotMeasured, match=missing):
        read_costs(without)
    assert missing in part(without)
    assert "|" not in part(without)


def test_a_part_takes_the_place_of_the_one_before() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert written(page, f"{BEGIN}\nnew\n{END}") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.0123, "0.012"), (0.996, "1.00"), (8.04, "8.0"), (38_123, "38 000"), (3e6, "3 000 000")],
)
def test_figures_are_told_as_well_as_they_are_known(value: float, shown: str) -> None:
    assert rounded(value) == shown


def test_more_people_take_more_of_everything() -> None:
    one, ten = plan(COSTS, MILLION), plan(COSTS, 10 * MILLION)
    assert ten.instances == 10 * one.instances
    assert ten.store_bytes == pytest.approx(10 * one.store_bytes)
    assert ten.primaries >= 9 * one.primaries


def test_what_decides_the_number_of_instances_is_named() -> None:
    assert plan(COSTS, MILLION).bound_by == "connections"
    assert plan(COSTS, MILLION).instances == MILLION / MOST_CONNECTIONS
    dear = replace(COSTS, delivery=Cost(800, 0.02))
    assert plan(dear, MILLION).bound_by == "CPU"


def test_who_comes_back_finds_what_those_who_stayed_leave() -> None:
    (_, one), (_, everybody), *_ = storms_of(COSTS)
    assert one.a_second == pytest.approx(0.4e6 / 600)
    assert everybody.a_second == pytest.approx(0.6e6 / 600)
    assert one.store_a_second < everybody.store_a_second


def test_a_fleet_ends_where_its_membership_takes_its_node() -> None:
    # Each of N instances costs 20 µs and 2 µs more for each of the others: N = 545 take 0.6 s of each second.
    count = most_instances(COSTS)
    assert count * (20 + 1.982 * (count - 1)) <= 600_000 < (count + 1) * (20 + 1.982 * count)


def test_a_fleet_that_costs_no_more_when_it_grows_has_no_end() -> None:
    assert most_instances(replace(COSTS, beats={1: Cost(50, 20), 1000: Cost(50, 20)})) == math.inf
