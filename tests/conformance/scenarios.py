"""Scenarios as they lie in files: a line of JSON is a step, the first one names the scenario.

It reads them; what a step does is `servers` and `clients`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.conformance.encodings import SUBPROTOCOLS

HERE = Path(__file__).parent
Side = Literal["server", "client"]


@dataclass(frozen=True, slots=True)
class Step:
    """One line."""

    line: int
    says: Mapping[str, Any]

    def __str__(self) -> str:
        return json.dumps(self.says)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One file, in one encoding."""

    path: Path
    encoding: str
    title: str
    needs: frozenset[str]
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return f"{self.path.stem} ({self.encoding})"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a scenario; without ``why`` it passed."""

    scenario: Scenario
    why: str = ""
    is_skipped: bool = False

    def __str__(self) -> str:
        word = "skip" if self.is_skipped else "FAIL" if self.why else "ok  "
        return f"{word} {self.scenario}: {self.scenario.title}" + (f"\n     {self.why}" if self.why else "")


def scenarios(side: Side, encodings: tuple[str, ...] = tuple(SUBPROTOCOLS), folder: Path = HERE) -> Iterator[Scenario]:
    """All scenarios of one side, by name."""
    for path in sorted((folder / side).glob("*.jsonl")):
        first, *steps = _lines(path)
        for encoding in encodings:
            if encoding in first.says.get("encodings", SUBPROTOCOLS):
                yield Scenario(
                    path, encoding, first.says["scenario"], frozenset(first.says.get("needs", ())), tuple(steps)
                )


def _lines(path: Path) -> list[Step]:
    lines = path.read_text(encoding="utf-8").splitlines()
    steps = [Step(number, json.loads(line)) for number, line in enumerate(lines, 1) if line.strip()]
    if not steps or "scenario" not in steps[0].says:
        raise ValueError(f'{path}: the first line is {{"scenario": TITLE}}')
    return steps
