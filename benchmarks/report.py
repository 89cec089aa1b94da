"""Writes what was measured: a JSON file for each case, and one page made of all of them, ratios first.

The page is made from the files, never from a run: a case can be run again alone.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.case import Case, Figure
from benchmarks.catalogue import CASES
from benchmarks.pairs import Course, Spread, ratios, spread
from benchmarks.verdicts import verdicts

HEAD = """# What was measured

Written by `make bench`; how to read it is in [the page above](../README.md). Ratios are the platform's figure divided
by the other's, medians over rounds in which both ran one after the other, with the smallest and the largest. Below 1
the platform needs less.
"""


def write_case(into: Path, case: Case, courses: Mapping[str, Course], about: Mapping[str, Any]) -> None:
    """One case's file: everything that was measured, unrounded."""
    into.mkdir(parents=True, exist_ok=True)
    result = {
        "case": case.name, "title": case.title, **about,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "subjects": {name: dataclasses.asdict(course) for name, course in courses.items()},
        "targets": [dataclasses.asdict(verdict) for verdict in verdicts(case, courses)],
    }  # fmt: skip
    (into / f"{case.name}.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def read_case(into: Path, case: Case) -> tuple[Mapping[str, Course], dict[str, Any]] | None:
    """What was written for a case: the courses, and what there was to say about the run."""
    path = into / f"{case.name}.json"
    if not path.exists():
        return None
    result = json.loads(path.read_text())
    return {name: Course(**course) for name, course in result["subjects"].items()}, result


def write_page(into: Path) -> None:
    """The page, of all cases that have a file."""
    found = [(case, *read) for case in CASES if (read := read_case(into, case)) is not None]
    parts = [HEAD, *(_section(case, courses, result) for case, courses, result in found)]
    (into / "README.md").write_text("\n".join(parts))


def table(case: Case, courses: Mapping[str, Course]) -> str:
    """A case as text: targets with verdicts, ratios, then the figures themselves."""
    return "\n".join(
        [*_targets(case, courses), "", *_ratios(case, courses), "", *_figures(case, courses), "", *_absent(courses)]
    )


def _section(case: Case, courses: Mapping[str, Course], result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    lines = [
        f"## {case.title}", "", case.about, "", table(case, courses), "",
        f"{result['rounds']} rounds, {result['at']}, commit {machine['commit']}. {machine['cpu']}, {machine['cores']} "
        f"cores, {machine['memory']}, {machine['kernel']}; load {result['load_before']:.1f} before and "
        f"{result['load_after']:.1f} after. {machine['python']}, Valkey {machine['valkey']}, {machine['parts']}.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _targets(case: Case, courses: Mapping[str, Course]) -> Iterator[str]:
    yield from _row_heads("target", "measured", "verdict")
    for verdict in verdicts(case, courses):
        yield _row(verdict.target, _spread(verdict.measured), verdict.words)


def _ratios(case: Case, courses: Mapping[str, Course]) -> Iterator[str]:
    ours, *others = [courses[name] for name in case.subjects if name in courses]
    others = [course for course in others if not course.missing]
    yield from _row_heads("platform ÷", *(course.name for course in others))
    for figure in case.figures:
        found = [ratios(ours, course, figure.name) for course in others]
        if any(found):
            yield _row(figure.title, *(_spread(ratio) for ratio in found))


def _figures(case: Case, courses: Mapping[str, Course]) -> Iterator[str]:
    present = [course for course in courses.values() if not course.missing]
    yield from _row_heads("figure", *(f"{course.name} {course.version.strip('-')}".strip() for course in present))
    for figure in case.figures:
        yield _row(figure.title, *(_median(course, figure) for course in present))


def _absent(courses: Mapping[str, Course]) -> Iterator[str]:
    for course in courses.values():
        if course.missing:
            yield f"- **{course.name} is missing**: {course.missing}"
        for failure in sorted(set(course.failures)):
            yield f"- {course.name} failed in {len(course.failures)} of {len(course.rounds)} rounds: {failure}"


def _median(course: Course, figure: Figure) -> str:
    found = spread(course, figure.name)
    return "–" if found is None else _number(found.median)


def _spread(found: Spread | None) -> str:
    return "–" if found is None else f"{_number(found.median)} ({_number(found.low)}–{_number(found.high)})"


def _number(value: float) -> str:
    """Three digits that count, and thousands apart."""
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"


def _row_heads(*heads: str) -> Sequence[str]:
    return _row(*heads), _row(*(["---"] + ["---:"] * (len(heads) - 1)))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
