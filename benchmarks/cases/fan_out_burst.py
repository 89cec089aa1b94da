"""One channel with a thousand subscribers, and two hundred messages at once: what handling things in rounds is for."""

from __future__ import annotations

from benchmarks.case import Case, Figure, Figures, Target, Trial
from benchmarks.fan_out import BATCH, bursts, subscribed


async def run(trial: Trial) -> Figures:
    subscribers, seconds = (50, 0.1) if trial.quick else (1000, 2.0)
    async with subscribed(trial, "c0", subscribers):
        return await bursts(trial, lambda: ["c0"] * BATCH, deliveries_each=subscribers, seconds=seconds)


CASE = Case(
    name="fan_out_burst",
    title="Fan-out, in bursts",
    about="1 000 subscribers of one channel; 200 messages of 200 bytes are published at once (the platform: one "
    "`publish_batch`), the next ones when all of them are delivered.",
    subjects=(
        "platform",
        "limit",
        "gathered",
        "nchan",
        "nats",
        "nats-2-cores",
        "socketio",
    ),
    figures=(
        Figure("per_second", "deliveries a second", better="more"),
        Figure("per_core", "deliveries a second of the server's CPU", better="more"),
        Figure("cpu_us", "server's CPU per delivery, µs"),
        Figure("store_us", "store's CPU per delivery, µs"),
        Figure("p99_ms", "latency p99, ms"),
        Figure("bytes", "bytes per delivery on the wire", better="neither"),
        Figure("generator_share", "load generator's share of a core", better="neither"),
    ),
    targets=(
        Target("per_second", against="nats", at_least=2.0),
        Target("per_second", against="socketio", at_least=10.0),
    ),
    run=run,
)
