"""Holds what was measured against what was to be reached, one plain verdict for each target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.case import Case, Target
from benchmarks.pairs import Course, Spread, ratios, spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One target beside what was measured."""

    target: str
    measured: Spread | None
    reached: bool | None
    """`None` when it could not be measured."""
    words: str


def verdicts(case: Case, courses: Mapping[str, Course]) -> Iterator[Verdict]:
    """One for each of the case's targets, in their order."""
    for target in case.targets:
        measured = _measured(case, courses, target)
        failed = len(courses[case.subjects[0]].failures) if measured is not None else 0
        reached = None if measured is None else _reaches(target, measured.median) and not failed
        words = (
            f"missed: it failed in {failed} of {len(courses[case.subjects[0]].rounds)} rounds"
            if failed
            else _words(target, measured)
        )
        yield Verdict(target=_told(case, target), measured=measured, reached=reached, words=words)


def _measured(case: Case, courses: Mapping[str, Course], target: Target) -> Spread | None:
    ours = courses.get(case.subjects[0])
    if ours is None:
        return None
    if not target.against:
        return spread(ours, target.figure)
    theirs = courses.get(target.against)
    return ratios(ours, theirs, target.figure) if theirs is not None else None


def _reaches(target: Target, value: float) -> bool:
    return (target.at_most is None or value <= target.at_most) and (target.at_least is None or value >= target.at_least)


def _told(case: Case, target: Target) -> str:
    title = next(figure.title for figure in case.figures if figure.name == target.figure)
    bound = f"≤ {target.at_most:g}" if target.at_most is not None else f"≥ {target.at_least:g}"
    return f"{title}: {bound}" + (f" × {target.against}" if target.against else "")


def _words(target: Target, measured: Spread | None) -> str:
    """``reached``, or by how much it is not."""
    if measured is None:
        return "not measured"
    if _reaches(target, measured.median):
        return "reached"
    bound = target.at_most if target.at_most is not None else target.at_least
    share = measured.median / bound if bound else float("inf")
    return f"missed: {share:.2f} × the bound"


def number(value: float) -> str:
    """Three digits that count, and thousands apart."""
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"
