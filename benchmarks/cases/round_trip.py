"""From a user to an agent and back, at a steady 500 questions a second: how long it takes, and what it costs."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from typing import cast

from benchmarks.case import Case, Figure, Figures, Target, Trial
from benchmarks.generator import answered
from benchmarks.spending import Spending
from benchmarks.subjects import Conversing

USERS = 50
A_SECOND = 500
IN_FLIGHT = 16
"""Of each user: more than 500 a second need, so that a slow answer holds up no question."""
WARM_UP_SECONDS = 1.0
FSYNCS = 50


async def run(trial: Trial) -> Figures:
    """All users ask in turn, whatever has been answered by then."""
    subject = cast(Conversing, trial.subject)
    exchange = await subject.conversation(USERS)
    await trial.load.open(subject, exchange, USERS)
    await trial.load.ask(exchange, in_flight=IN_FLIGHT, rate=A_SECOND, seconds=WARM_UP_SECONDS)
    await trial.load.begin()
    spending = Spending(subject)
    seen = await trial.load.ask(exchange, in_flight=IN_FLIGHT, rate=A_SECOND, seconds=1.5 if trial.quick else 6)
    figures = spending.each("answer", answered(seen, but=seen.requests // 100).answers)
    await trial.load.close()
    return figures | {
        "disk": _fsync_ms(),
        "p50": seen.answer_latency.p50 / 1e6,
        "p99": seen.answer_latency.p99 / 1e6,
        "unanswered": seen.requests - seen.answers,
    }


def _fsync_ms() -> float:
    """What it takes to have a few bytes on disk here: the platform waits for that with every step."""
    took = []
    with tempfile.NamedTemporaryFile(prefix="benchmark-") as file:
        for _ in range(FSYNCS):
            file.write(b"x" * 500)
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    return 1000 * statistics.median(took)


FIGURES = (
    Figure("p50", "p50, ms"),
    Figure("p99", "p99, ms"),
    Figure("answer", "CPU of the servers for each question and its answer, µs"),
    Figure("answer_store", "the same, of the store"),
    Figure("unanswered", "questions without an answer"),
    Figure("disk", "one fdatasync of this machine right after, median, ms"),
)
TARGETS = (Target("p50", at_most=3), Target("p99", at_most=10), Target("unanswered", at_most=0))

CASE = Case(
    name="round_trip",
    title="User → agent → user",
    about=(
        f"{USERS} users ask {A_SECOND} questions a second; an agent, another client in a process of its own, answers "
        "each at once. In the platform each question goes through the inbox and each answer through the asker's log, "
        "both in Valkey, which has each step on disk before the next; python-socketio passes them on in memory."
    ),
    subjects=("platform", "python-socketio"),
    figures=FIGURES,
    run=run,
    targets=TARGETS,
)
ACROSS = Case(
    name="round_trip_across",
    title="User → agent → user, across two instances",
    about="The same, with two instances that share a Valkey: the users are on one, the agent is on the other. What "
    "python-socketio takes for it stands above; it has one instance alone.",
    subjects=("platform-two",),
    figures=FIGURES,
    run=run,
    targets=TARGETS,
)
