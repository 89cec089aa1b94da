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
from benchmarks.plots import draw
from benchmarks.verdicts import number, verdicts

HEAD = """# What was measured

Written by `make bench`; how to read it is in [the page above](../README.md). Ratios are the platform's figure divided
by the other's, medians over rounds in which both ran one after the other, with the smallest and the largest: below 1
it needs less, and where more is better (↑), above 1 it does more.
"""
SMALLER = "Quick: smaller and shorter than what the targets are about, so that their verdicts say nothing.\n\n"


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
    draw(into, case, courses)


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
    parts = [HEAD, *(_section(into, case, courses, result) for case, courses, result in found)]
    (into / "README.md").write_text("\n".join(parts))


def table(case: Case, courses: Mapping[str, Course]) -> str:
    """A case as text: targets with verdicts, ratios, then the figures themselves."""
    parts = (_targets, _ratios, _figures, _remarks)
    return "\n\n".join("\n".join(lines) for part in parts if (lines := list(part(case, courses))))


def _section(into: Path, case: Case, courses: Mapping[str, Course], result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    warning = SMALLER if result["quick"] else ""
    lines = [
        f"## {case.title}", "", case.about, "", warning + table(case, courses), "", *_picture(into, case),
        f"{result['rounds']} rounds, {result['at']}, commit {machine['commit']}. {machine['cpu']}, {machine['cores']} "
        f"cores, {machine['memory']}, {machine['kernel']}; load {result['load_before']:.1f} before and "
        f"{result['load_after']:.1f} after. {machine['python']}, Valkey {machine['valkey']}, {machine['parts']}.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _picture(into: Path, case: Case) -> Sequence[str]:
    names = [name for name in (f"{case.name}.svg", f"flame-{case.name}.svg") if (into / name).exists()]
    links = {
        name: f"![{case.title}]({name})" if name == f"{case.name}.svg" else f"[Flame graph]({name})" for name in names
    }
    return [line for name in names for line in (links[name], "")]


def _targets(case: Case, courses: Mapping[str, Course]) -> Iterator[str]:
    if case.targets:
        yield from _row_heads("target", "measured", "verdict")
    for verdict in verdicts(case, courses):
        yield _row(verdict.target, _spread(verdict.measured), verdict.words)


def _ratios(case: Case, courses: Mapping[str, Course]) -> Iterator[str]:
    ours = courses.get(case.subjects[0])
    others = [course for course in courses.values() if course is not ours and not course.missing]
    if ours is None or not others:
        return
    yield from _row_heads(f"{ours.name} ÷", *(course.name for course in others))
    for figure in case.figures:
        found = [ratios(ours, course, figure.name) for course in others]
        if any(found) and figure.better != "neither":
            yield _row(_titled(figure), *(_spread(ratio) for ratio in found))


def _figures(case: Case, courses: Mapping[str, Course]) -> Iterator[str]:
    present = [course for course in courses.values() if not course.missing]
    yield from _row_heads("figure", *(course.name for course in present))
    for figure in case.figures:
        if any(spread(course, figure.name) for course in present):
            yield _row(_titled(figure), *(_median(course, figure) for course in present))


def _remarks(case: Case, courses: Mapping[str, Course]) -> Iterator[str]:
    """Versions, and who is missing, failed, or took so long that there are fewer rounds."""
    for course in courses.values():
        measured = sum(found is not None for found in course.rounds)
        if course.missing:
            yield f"- **{course.name} is missing**: {course.missing}"
        else:
            rounds = "" if measured == len(course.rounds) else f", {measured} of {len(course.rounds)} rounds"
            yield f"- {course.name}: {course.version.strip('-') or 'no release'}{rounds}"
        yield from (f"  - it failed: {failure}" for failure in course.failures[:1])


def _titled(figure: Figure) -> str:
    return f"{figure.title} ↑" if figure.better == "more" else figure.title


def _median(course: Course, figure: Figure) -> str:
    found = spread(course, figure.name)
    return "–" if found is None else number(found.median)


def _spread(found: Spread | None) -> str:
    return "–" if found is None else f"{number(found.median)} ({number(found.low)}–{number(found.high)})"


def _row_heads(*heads: str) -> Sequence[str]:
    return _row(*heads), _row(*(["---"] + ["---:"] * (len(heads) - 1)))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
