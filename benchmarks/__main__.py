"""The platform and its peers, side by side on this machine: `python -m benchmarks`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import capacity, flames, machine, report
from benchmarks.case import Case
from benchmarks.catalogue import CASES, SUBJECTS
from benchmarks.pairs import Course, run
from benchmarks.subjects import Missing

RESULTS = Path(__file__).with_name("results")
ROUNDS, QUICK_ROUNDS = 5, 1
UNUSABLE = 2
"""The status of a run that cannot begin, as of one that was asked for what there is not."""
ABOUT = """Measures the platform beside its peers and beside what the kernel allows, all on this
machine with one load generator, in rounds. Prints a table for each case and writes
benchmarks/results/."""


def main(words: Sequence[str] | None = None) -> int:
    """Runs the cases that are asked for.

    The status is 1 when the platform failed in one, never for a missed target or for a peer that cannot be had here; 2
    when this machine lacks what nothing can be measured without.
    """
    asked = _asked(words)
    try:
        return _carry_out(asked)
    except Missing as missing:
        _tell(f"this cannot be measured here: {missing}")
        return UNUSABLE


def _carry_out(asked: argparse.Namespace) -> int:
    chosen = [case for case in CASES if case.name in (asked.cases or [case.name for case in CASES])]
    rounds = asked.pairs or (QUICK_ROUNDS if asked.quick else ROUNDS)
    into = asked.into or (None if asked.quick or asked.subjects else RESULTS)
    if asked.flame:
        return _record([case for case in CASES if case.name in asked.flame], into or Path.cwd(), quick=asked.quick)
    failed = False
    for case in chosen:
        names = [name for name in case.subjects if not asked.subjects or name in asked.subjects]
        courses, about = _run(case, names, min(rounds, case.most_rounds or rounds), quick=asked.quick)
        print(f"\n{case.title}\n\n{report.SMALLER if asked.quick else ''}{report.table(case, courses)}", flush=True)  # noqa: T201  # what it is for
        if into is not None:
            report.write_case(into, case, courses, about)
            report.write_page(into)
        if into == RESULTS:
            capacity.write()  # the page about scaling is computed from them
        failed |= any(courses[name].failures for name in case.subjects[:1] if name in courses)
    return int(failed)


def _run(
    case: Case, names: Sequence[str], rounds: int, *, quick: bool
) -> tuple[Mapping[str, Course], dict[str, object]]:
    before, began = machine.load_average(), time.monotonic()
    courses = asyncio.run(run(case, names, rounds, quick=quick, tell=_tell))
    _tell(f"{case.name}: {time.monotonic() - began:.0f} s")
    about = {"rounds": rounds, "quick": quick, "machine": machine.described()}
    return courses, about | {"load_before": before, "load_after": machine.load_average()}


def _record(cases: Sequence[Case], into: Path, *, quick: bool) -> int:
    into.mkdir(parents=True, exist_ok=True)
    for case in cases:
        _tell(f"{case.name}: recording the platform")
        _tell(f"{case.name}: {asyncio.run(flames.record(case, into, quick=quick))}")
    return 0


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)  # noqa: T201  # progress


def _epilog() -> str:
    """The cases and subjects that there are, and what one may type."""
    cases = "\n".join(f"  {case.name:20} {case.title}" for case in CASES)
    example = "python -m benchmarks --cases fan_out_paced --subjects platform limit"
    return f"cases:\n{cases}\n\nsubjects:\n  {', '.join(SUBJECTS)}\n\nexamples:\n  make bench ARGS=--quick\n  {example}"


def _asked(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=ABOUT,
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cases", nargs="+", choices=[case.name for case in CASES], help="only these")
    parser.add_argument(
        "--subjects",
        nargs="+",
        choices=list(SUBJECTS),
        help="only these, of those that a case has; writes nothing unless told where",
    )
    parser.add_argument("--pairs", type=int, help=f"how many rounds; {ROUNDS} unless told, {QUICK_ROUNDS} if quick")
    parser.add_argument("--quick", action="store_true", help="smaller and shorter; writes nothing unless told where")
    parser.add_argument("--flame", nargs="+", choices=[case.name for case in CASES], help="only record where CPU goes")
    parser.add_argument("--into", type=Path, help="where results are written; benchmarks/results unless told")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
