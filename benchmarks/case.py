"""What a benchmark's case is: a declaration, and a function that measures one subject once.

Cases know nothing of pairs, medians or reports, and nothing of how a subject works inside.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal

from benchmarks.generator import Load
from benchmarks.subjects import Subject

Figures = Mapping[str, float]
"""What one trial measured, under the names of the case's `Figure`s."""


@dataclass(frozen=True, slots=True)
class Figure:
    """Something that a case measures: its name, what it is in a few words with its unit, and which way is better."""

    name: str
    title: str
    better: Literal["less", "more", "neither"] = "less"
    """Of what is neither better nor worse, like the generator's own cost, no ratios are told."""
    at: float | None = None
    """For growth: the size at which it was measured. Figures of one ``curve`` are drawn as one line."""
    curve: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """What the case's first subject is to reach: a figure, as it is or as a ratio to another subject's."""

    figure: str
    _: KW_ONLY
    at_most: float | None = None
    at_least: float | None = None
    against: str = ""
    """Another subject: the bound is on the median over all pairs of ours / its."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One subject, up, with the load generator: what a case gets."""

    subject: Subject
    load: Load
    quick: bool
    """Smaller and shorter, for people who wait and for the test of the harness."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case of the report."""

    name: str
    title: str
    about: str
    """What is done, in a sentence or two, for the report."""
    subjects: Sequence[str]
    """Names in `benchmarks.catalogue`; the first is the one that targets are about."""
    figures: Sequence[Figure]
    run: Callable[[Trial], Awaitable[Figures]]
    targets: Sequence[Target] = ()
    channels: int = 1
    """How many channels subjects must have: ``c0``, ``c1`` and so on."""
    most_rounds: int = 0
    """For what takes long, or is true of a fresh process alone: at most so many rounds; 0 for as many as are wanted."""
    main: str = ""
    """The figure that plots show; the first one if empty."""
