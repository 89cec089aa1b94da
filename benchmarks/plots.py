"""Draws a case as an SVG: a bar for each subject, or lines where a figure was measured at several sizes.

A subject that stands alone at one size is not drawn: its figure says all. It needs matplotlib (`scripts/environment
bench`), and nothing else does: without it there are tables only.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.case import Case, Figure
from benchmarks.pairs import Course, spread
from benchmarks.verdicts import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS, THEIRS, INK = "#0b6e4f", "#9aa5b1", "#20262d"
STYLE = {
    "svg.hashsalt": "smart-city",  # the same figures are the same file
    "font.size": 9, "axes.edgecolor": THEIRS, "text.color": INK, "axes.labelcolor": INK,
    "axes.spines.top": False, "axes.spines.right": False,
}  # fmt: skip


def draw(into: Path, case: Case, courses: Mapping[str, Course]) -> bool:
    """Writes ``CASE.svg``; says whether there was matplotlib, and something to draw. An older plot is gone."""
    path = into / f"{case.name}.svg"
    path.unlink(missing_ok=True)
    try:
        import matplotlib.pyplot as plt
    except ModuleNotFoundError:
        return False
    lines = [list(group) for _, group in itertools.groupby(_curves(case), key=lambda figure: figure.curve)]
    shown = [course for course in courses.values() if any(found for found in course.rounds)]
    if not shown or (len(shown) == 1 and not lines):
        return False
    with plt.rc_context(STYLE):
        width, height = (3.4 * len(lines), 3.0) if lines else (7.0, 0.6 + 0.32 * len(shown))
        picture, axes = plt.subplots(1, len(lines) or 1, figsize=(width, height), squeeze=False)
        for place, curve in zip(axes[0], lines, strict=False):
            _draw_lines(place, curve, shown)
        if not lines:
            _draw_bars(axes[0][0], _main(case), shown, case.subjects[0])
        picture.savefig(path, bbox_inches="tight", metadata={"Date": None})
        plt.close(picture)
    return True


def _curves(case: Case) -> Sequence[Figure]:
    return [figure for figure in case.figures if figure.curve]


def _main(case: Case) -> Figure:
    return next(figure for figure in case.figures if figure.name == (case.main or case.figures[0].name))


def _draw_bars(axes: Axes, figure: Figure, shown: Sequence[Course], ours: str) -> None:
    """Medians, with a thin line from the smallest to the largest."""
    for place, course in enumerate(reversed(shown)):
        if (found := spread(course, figure.name)) is not None:
            axes.barh(place, found.median, height=0.62, color=OURS if course.name == ours else THEIRS)
            axes.plot([found.low, found.high], [place, place], color=INK, linewidth=1)
            axes.annotate(f" {number(found.median)}", (max(found.median, found.high), place), va="center")
    axes.xaxis.set_major_formatter(lambda value, _: number(value))
    axes.locator_params(axis="x", nbins=6)
    axes.set_yticks(range(len(shown)), [course.name for course in reversed(shown)])
    axes.set_xlabel(f"{figure.title}, {figure.better} is better")


def _draw_lines(axes: Axes, curve: Sequence[Figure], shown: Sequence[Course]) -> None:
    """A line for each subject over sizes of any order; costs begin at zero, so that flat is flat."""
    for course in shown:
        found = {figure.at: middle.median for figure in curve if (middle := spread(course, figure.name))}
        points = {at: value for at, value in found.items() if at is not None and value > 0}
        if points:
            colour = OURS if course is shown[0] else THEIRS
            axes.plot(list(points), list(points.values()), marker="o", color=colour, label=course.name)
    axes.set(xscale="log", ylim=(0, None), title=curve[0].title.replace(f" at {curve[0].at:.0f}", ""))
    axes.legend(frameon=False)
