"""Runs a case with all its subjects in turn, several times over, and compares what was measured close together.

Machines change from minute to minute, and subjects with them: a ratio is of one round, and what is told is the median
over rounds and how far they lie apart. It prints nothing and judges nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from benchmarks.case import Case, Figures, Trial
from benchmarks.catalogue import made
from benchmarks.fan_out import Lost
from benchmarks.generator import Load, Refused
from benchmarks.keepalive import Answered
from benchmarks.measure import idle
from benchmarks.processes import Failed
from benchmarks.subjects import Missing, Subject

PATIENCE_SECONDS = 40.0
"""What a subject may take of a case before it sits out, which five rounds of one that keeps up do not."""
FAILURES = (Lost, Refused, Failed, Answered, TimeoutError, OSError, EOFError)
"""What a subject may do wrong under load. It is told in the report, and the others go on."""


@dataclass(slots=True)
class Course:
    """What became of one subject in a case: its figures of each round (`None`: it has none), or why it is missing."""

    name: str
    version: str = ""
    missing: str = ""
    failures: list[str] = field(default_factory=list)
    rounds: list[Figures | None] = field(default_factory=list)
    seconds: float = 0.0
    """How long it took to measure it."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A median, and the smallest and largest beside it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """Of no values there is none."""
        return cls(statistics.median(values), min(values), max(values)) if values else None


def spread(course: Course, figure: str) -> Spread | None:
    """A subject's figure over all its rounds."""
    return Spread.of([found[figure] for found in course.rounds if found is not None and figure in found])


def ratios(ours: Course, theirs: Course, figure: str) -> Spread | None:
    """Ours divided by theirs, of each round in which both have the figure."""
    found = []
    for our, their in zip(ours.rounds, theirs.rounds, strict=False):  # one that is missing has none
        if our and their and figure in our and their.get(figure):
            found.append(our[figure] / their[figure])
    return Spread.of(found)


async def run(
    case: Case, names: Sequence[str], rounds: int, *, quick: bool, tell: Callable[[str], None]
) -> Mapping[str, Course]:
    """Measures the subjects of these names in turn, ``rounds`` times, every second time in reverse.

    A subject that has taken `PATIENCE_SECONDS` sits out the rounds that are left; the case's own never does. Nobody is
    measured where that one is missing: there would be nothing to compare.
    """
    courses = {name: Course(name) for name in names}
    async with AsyncExitStack() as stack:
        load = await stack.enter_async_context(Load())
        up: dict[str, Subject] = {}
        for name, course in courses.items():
            tell(f"{case.name}: starting {name}")
            if (subject := await stack.enter_async_context(_started(course, case.channels))) is not None:
                up[name] = subject
            elif name == case.subjects[0]:
                return courses
        for number in range(rounds):
            for name in list(up) if number % 2 == 0 else list(reversed(up)):
                course = courses[name]
                if course.seconds > PATIENCE_SECONDS and name != case.subjects[0]:
                    course.rounds.append(None)
                    continue
                tell(f"{case.name}: round {number + 1} of {rounds}, {name}")
                await _measure(course, case, Trial(subject=up[name], load=load, quick=quick))
    return courses


@asynccontextmanager
async def _started(course: Course, channels: int) -> AsyncIterator[Subject | None]:
    """The subject, up; ``None`` when it is missing, which the course tells."""
    async with AsyncExitStack() as stack:
        subject = None
        try:
            subject = await stack.enter_async_context(made(course.name, channels))
            course.version = subject.version
            await idle(subject.processes)  # ours goes on to load its MCP surface for a second when it is open
        except Missing as missing:
            course.missing = str(missing)
        except FAILURES as failure:
            course.missing = f"it did not start: {failure}"
            course.failures.append(course.missing)
        yield subject


async def _measure(course: Course, case: Case, trial: Trial) -> None:
    began = time.monotonic()
    try:
        course.rounds.append(await case.run(trial))
    except FAILURES as failure:
        course.rounds.append(None)
        course.failures.append(f"{type(failure).__name__}: {failure}")
    course.seconds += time.monotonic() - began
