"""What all cases of the benchmark declare holds together; whether they measure well, runs of them show."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.case import Case
from benchmarks.catalogue import CASES


def test_names_are_those_of_one_case() -> None:
    assert [name for name, count in Counter(case.name for case in CASES).items() if count > 1] == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_targets_are_about_what_is_measured(case: Case) -> None:
    figures = [figure.name for figure in case.figures]
    assert len(figures) == len(set(figures))
    assert {target.figure for target in case.targets} <= set(figures)
    assert {target.against for target in case.targets} <= {"", *case.subjects}
    assert [target for target in case.targets if (target.at_most is None) == (target.at_least is None)] == []
