"""What a publication costs whoever publishes: one by one and in batches over HTTP, and on WebSockets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from benchmarks.callers import drive, request
from benchmarks.case import Case, Figure, Figures, Target, Trial
from benchmarks.cities import city
from benchmarks.city import City
from benchmarks.generator import answered
from benchmarks.spending import Spending

ITEM: Mapping[str, Any] = {"channel": "guide", "message": {"text": "p" * 180}}
"""About 200 bytes as JSON."""
SENDERS = 50
IN_FLIGHT = 20
ON_SOCKETS = 60_000


async def run(trial: Trial) -> Figures:
    """Nobody listens, so that nothing but publishing is paid for."""
    subject = city(trial.subject)
    token = await subject.service("benchmark", "post_office.publish")  # the operator's is looked up nowhere
    one = ("publish_to_agent_channel", {**ITEM, "realm": "benchmark"})
    figures: dict[str, float] = {}
    for name, (operation, arguments), calls, callers, messages in (
        ("one", one, 2_000, 1, 1),
        ("one_of_20", one, 4_000, 20, 1),
        ("batch_100", ("publish_batch", {"items": [ITEM] * 100}), 300, 1, 100),
        ("batch_1000", ("publish_batch", {"items": [ITEM] * 1000}), 60, 1, 1000),
    ):
        data = request(f"/soa/post-office/{operation}", arguments, Authorization=f"Bearer {token}")
        driven = partial(
            drive, subject.host, subject.port, data, callers=callers, mark=b'"status":"published"', marks=messages
        )
        await driven(calls=max(callers, calls // 20))
        spending = Spending(subject)
        done = await driven(calls=calls // 5 if trial.quick else calls)
        figures |= spending.each(name, len(done.latencies) * messages)
    return figures | await _on_sockets(trial, subject)


async def _on_sockets(trial: Trial, subject: City) -> dict[str, float]:
    """Every frame a publication, acknowledged with its position."""
    exchange = await subject.publishing(SENDERS)
    await trial.load.open(subject, exchange, SENDERS)
    await trial.load.begin()
    await trial.load.ask(exchange, in_flight=IN_FLIGHT, total=2_000)
    await trial.load.begin()
    spending = Spending(subject)
    messages = ON_SOCKETS // 10 if trial.quick else ON_SOCKETS
    seen = answered(await trial.load.ask(exchange, in_flight=IN_FLIGHT, total=messages, seconds=30))
    figures = spending.each("socket", seen.answers)
    await trial.load.close()
    return figures


def _figures(name: str, title: str) -> tuple[Figure, ...]:
    return (
        Figure(f"{name}_a_second", f"{title}: messages a second and core", "more"),
        Figure(name, f"{title}: CPU a message, µs"),
        Figure(f"{name}_store", f"{title}: CPU of Valkey, µs"),
    )


CASE = Case(
    name="publishing",
    title="Publishing",
    about=(
        "Services publish 200 bytes to one channel: over HTTP from one caller and from 20, with publish_batch of 100 "
        f"and 1 000, and on {SENDERS} WebSockets with {IN_FLIGHT} in flight each. Each is acknowledged with its "
        "position in the log, which is on disk by then. Nobody listens."
    ),
    subjects=("platform",),
    figures=(
        *_figures("one", "HTTP, one caller"),
        *_figures("one_of_20", "HTTP, 20 callers"),
        *_figures("batch_100", "publish_batch of 100"),
        *_figures("batch_1000", "publish_batch of 1 000"),
        *_figures("socket", "WebSocket"),
    ),
    most_rounds=3,
    run=run,
    targets=(
        Target("one_a_second", at_least=3_000),
        Target("one_of_20_a_second", at_least=3_000),
        Target("batch_100_a_second", at_least=150_000),
        Target("batch_1000_a_second", at_least=150_000),
        Target("socket_a_second", at_least=60_000),
    ),
    main="one_of_20_a_second",
)
