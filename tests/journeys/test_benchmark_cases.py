"""Every case of the benchmarks measures the platform, small and once: all of its figures, and none of them made up.

What the figures are is nobody's concern here; peers are held to what they promise in `test_peers`.
"""

from __future__ import annotations

import math

import pytest

from benchmarks.case import Case
from benchmarks.catalogue import CASES
from benchmarks.pairs import Course, run

SMALLER = {"growth_subscribers", "growth_channels"}
"""Those that leave out their largest sizes when they are quick."""
NOTHING = {"not_resumed", "unanswered"}
"""Of these there should be none."""
DIFFERENCES = {"share", "share_gateway", "share_store", "second", "second_store"}
"""Of a loaded machine's noise, small ones may be less than nothing."""


async def measured(case: Case) -> Course:
    ours = case.subjects[0]
    return (await run(case, [ours], 1, quick=True, tell=lambda _: None))[ours]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_the_platform_is_measured_in_every_figure(case: Case) -> None:
    course = await measured(case)
    assert (course.missing, course.failures) == ("", [])
    (figures,) = course.rounds
    assert figures is not None
    assert figures.keys()
    assert case.name in SMALLER or {figure.name for figure in case.figures} <= figures.keys()
    assert {name: figures[name] for name in NOTHING & figures.keys() if figures[name]} == {}
    counted = figures.keys() - NOTHING - DIFFERENCES
    assert {name: figures[name] for name in counted if not 0 <= figures[name] < math.inf} == {}
