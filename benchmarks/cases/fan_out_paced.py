"""One channel with a thousand subscribers, twenty messages of 200 bytes a second: the whole path at an even pace."""

from __future__ import annotations

from benchmarks.case import Case, Figure, Figures, Target, Trial
from benchmarks.fan_out import at_a_pace


async def run(trial: Trial) -> Figures:
    subscribers, seconds = (100, 1.0) if trial.quick else (1000, 3.0)
    return await at_a_pace(trial, subscribers, seconds=seconds)


CASE = Case(
    name="fan_out_paced",
    title="Fan-out, at a pace",
    about="1 000 subscribers of one channel, 20 messages of 200 bytes a second, each published by one call over HTTP.",
    subjects=("platform", "limit", "nchan", "nats", "socketio", "python-socketio", "channels"),
    figures=(
        Figure("cpu_us", "server's CPU per delivery, µs"),
        Figure("store_us", "store's CPU per delivery, µs"),
        Figure("p50_ms", "latency p50, ms"),
        Figure("p99_ms", "latency p99, ms"),
        Figure("bytes", "bytes per delivery on the wire", better="neither"),
        Figure("generator_us", "load generator's CPU per delivery, µs", better="neither"),
    ),
    targets=(
        Target("cpu_us", against="limit", at_most=1.8),
        Target("cpu_us", against="nchan", at_most=1.15),
        Target("cpu_us", against="nats", at_most=0.75),
        Target("p99_ms", against="nchan", at_most=1.0),
        Target("p99_ms", against="nats", at_most=1.0),
    ),
    run=run,
)
