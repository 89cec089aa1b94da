"""Ten thousand channels with one subscriber each, and publications on channels at random: nothing can be shared."""

from __future__ import annotations

from benchmarks.case import Case, Figure, Figures, Target, Trial
from benchmarks.fan_out import scattered

CHANNELS = 10_000
PEERS = ("nchan", "socketio", "python-socketio", "channels")
"""NATS, whose subscribers are all it has, is beside them without a target."""


async def run(trial: Trial) -> Figures:
    channels, seconds = (500, 0.3) if trial.quick else (CHANNELS, 2.0)
    return await scattered(trial, channels, seconds=seconds)


CASE = Case(
    name="many_channels",
    title="10 000 channels, one subscriber each",
    about="200 messages of 200 bytes at a time, each on one of 10 000 channels at random, the next ones when all of "
    "them are delivered.",
    subjects=("platform", "limit", "nats", *PEERS),
    figures=(
        Figure("per_second", "deliveries a second", better="more"),
        Figure("per_core", "deliveries a second of the server's CPU", better="more"),
        Figure("cpu_us", "server's CPU per delivery, µs"),
        Figure("store_us", "store's CPU per delivery, µs"),
        Figure("p99_ms", "latency p99, ms"),
        Figure("generator_share", "load generator's share of a core", better="neither"),
    ),
    targets=tuple(Target("per_second", against=peer, at_least=1.0) for peer in PEERS),
    channels=CHANNELS,
    run=run,
)
