"""The page of the faults keeps its words, and says of each fault what was seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.figures import figures
from tests.faults.invariants import INVARIANTS
from tests.faults.record import Record
from tests.faults.report import BEGIN, COLUMNS, END, Other, Verdict, machine, tables, with_tables

pytestmark = pytest.mark.quick

PAGE = Path(__file__).resolve().parents[2] / "docs/faults.md"


def verdict(**broken: int) -> Verdict:
    return Verdict(
        fault="a reset", seconds=12.3, broken=dict.fromkeys(INVARIANTS, 0) | broken, figures=figures(Record())
    )


def test_every_figure_has_a_column() -> None:
    assert set(COLUMNS) == set(figures(Record()))


def test_what_held_and_what_did_not_is_told() -> None:
    told = tables([verdict(**{"nothing lost": 2})], [Other(name="a storm", outcome="passed", seconds=3)], "today")
    assert "| a reset | **broken 2 times** | holds |" in told
    assert "| a storm | passed | 3 |" in told
    assert told.startswith("today")


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert with_tables(text, "new\n") == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"


def test_the_page_says_what_each_invariant_and_each_figure_means() -> None:
    head = PAGE.read_text().partition(BEGIN)[0]
    assert BEGIN in PAGE.read_text()
    assert END in PAGE.read_text()
    for name in (*INVARIANTS, *COLUMNS):
        assert f"**{name}**" in head, name


def test_the_machine_is_named() -> None:
    assert "cores" in machine()
