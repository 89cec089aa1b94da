"""The tables of `docs/faults.md`, made of what a run has seen: faults by invariants, and the numbers of each.

The words around them are written by hand and kept; what stands between the marks is the run's.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.invariants import INVARIANTS

BEGIN, END = "<!-- what the last run saw -->", "<!-- end of what the last run saw -->"
COLUMNS = (
    "acknowledged", "received", "questions", "answers", "deliveries", "held", "refused", "provisional", "duplicates",
    "links lost", "recovered", "breaks", "lost", "longest silence", "longest wait",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of one fault: how often each invariant was broken, and the numbers."""

    fault: str
    seconds: float
    broken: Mapping[str, int]
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """A test among the faults that keeps no record of its own."""

    name: str
    outcome: str
    seconds: float


def with_tables(text: str, tables: str) -> str:
    """The page with these tables in place of the former ones."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{tables}\n{END}{tail}"


def tables(verdicts: Sequence[Verdict], others: Sequence[Other], run: str) -> str:
    """Everything that a run has to say, ``run`` first."""
    parts = [run, "### Fault by invariant", _held(verdicts), "### The numbers", _numbers(verdicts)]
    if others:
        parts += ["### Tests that look at one thing each", _others(others)]
    return "\n\n".join(parts) + "\n"


def _held(verdicts: Iterable[Verdict]) -> str:
    names = list(INVARIANTS)
    rows = [[each.fault, *(_mark(each.broken[name]) for name in names)] for each in verdicts]
    return _table(["fault", *names], rows)


def _mark(broken: int) -> str:
    return f"**broken {broken} times**" if broken else "holds"


def _numbers(verdicts: Iterable[Verdict]) -> str:
    rows = [[each.fault, *(f"{each.figures[name]:g}" for name in COLUMNS), f"{each.seconds:.0f}"] for each in verdicts]
    return _table(["fault", *COLUMNS, "trial"], rows)


def _others(others: Iterable[Other]) -> str:
    return _table(["test", "outcome", "seconds"], [[each.name, each.outcome, f"{each.seconds:.0f}"] for each in others])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """What it ran on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores{_model()}, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def _model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f" ({names[0]})" if names else ""
