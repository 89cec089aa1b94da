"""What each thing costs the gateway and the store, taken from the measured results, for whoever computes with it.

A cost that was not measured is missing here, and so is whatever would be derived from it: nothing is assumed instead.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cases import fleet
from benchmarks.catalogue import CASES

RESULTS = Path(__file__).with_name("results")


class NotMeasured(Exception):
    """A case or a figure has no result; the sentence says which, and what to run."""


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU of one thing, in microseconds: the gateway's, and the store's beside it."""

    gateway: float
    store: float = 0.0

    def times(self, count: float) -> Cost:
        return Cost(self.gateway * count, self.store * count)

    def plus(self, other: Cost) -> Cost:
        return Cost(self.gateway + other.gateway, self.store + other.store)


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Everything that the capacity of instances, machines and clusters is derived from."""

    delivery: Cost
    """One delivery of a paced publication, its share of everything before it included."""
    delivery_in_bursts: Cost
    publication: Cost
    """One publication over HTTP, in a call of its own."""
    publication_in_batches: Cost
    publication_on_socket: Cost
    question: Cost
    """Into an inbox and acknowledged, 20 in flight."""
    answered_question: Cost
    """From the user to the agent and back, at 500 a second."""
    connecting: Cost
    resuming: Cost
    idle_second: Cost
    """Of one connection with three subscriptions: its heartbeats and its share of the leases."""
    idle_second_on_cluster: Cost
    idle_bytes: Cost
    """Bytes, not microseconds, of one connection in the gateway and in the store."""
    session_bytes: float
    """Of one user's session, in the store."""
    beats: Mapping[int, Cost]
    """A second of an instance's membership, by how many instances live."""
    delivery_bytes: float
    """On the wire, without the network's own headers."""


class Results:
    """The medians in a folder of results, by case and figure; a case is about the subject that it is measured for."""

    def __init__(self, folder: Path = RESULTS) -> None:
        self._folder = folder

    def figure(self, case: str, name: str) -> float:
        """The median of one figure.

        Raises:
            NotMeasured: there is none.
        """
        try:
            told = json.loads((self._folder / f"{case}.json").read_text())
            rounds = told["subjects"][_subject(case)]["rounds"]
            return float(statistics.median([each[name] for each in rounds if each is not None]))
        except (OSError, KeyError, statistics.StatisticsError) as error:
            raise NotMeasured(f"{case}: {name} has no result; run `python -m benchmarks --cases {case}`") from error

    def cost(self, case: str, name: str, store: str = "") -> Cost:
        """A figure in microseconds with the store's beside it."""
        return Cost(self.figure(case, name), self.figure(case, store or f"{name}_store"))


def _subject(case: str) -> str:
    return next(each.subjects[0] for each in CASES if each.name == case)


def read_costs(results: Results) -> Costs:
    """All costs.

    Raises:
        NotMeasured: one of them has no result.
    """
    return Costs(
        delivery=results.cost("fan_out_paced", "cpu_us", "store_us"),
        delivery_in_bursts=results.cost("fan_out_burst", "cpu_us", "store_us"),
        publication=results.cost("publishing", "one_of_20"),
        publication_in_batches=results.cost("publishing", "batch_1000"),
        publication_on_socket=results.cost("publishing", "socket"),
        question=results.cost("inbox", "twenty"),
        answered_question=results.cost("round_trip", "answer"),
        connecting=results.cost("connecting", "connect"),
        resuming=results.cost("resume", "resume"),
        idle_second=results.cost("idle", "second"),
        idle_second_on_cluster=results.cost("idle_cluster", "second"),
        idle_bytes=results.cost("idle", "bytes"),
        session_bytes=results.figure("idle", "session_store"),
        beats={size: results.cost("fleet", f"beat_{size}") for size in fleet.SIZES},
        delivery_bytes=results.figure("fan_out_paced", "bytes"),
    )
