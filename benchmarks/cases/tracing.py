"""The fan-out at a pace with traces on, beside the same with traces off."""

from __future__ import annotations

import asyncio

from benchmarks.case import Case, Figure, Figures, Target, Trial
from benchmarks.cities import Traced
from benchmarks.fan_out import paced, payload
from benchmarks.processes import Failed

RATE = 20.0
WARM_UP = 500
"""Publications that nobody hears: of so many some are sampled."""
EXPORT_SECONDS = 15.0


async def run(trial: Trial) -> Figures:
    """What `cases.fan_out_paced` does; a platform that exports nothing is not measured."""
    for _ in range(WARM_UP):
        await trial.subject.publish("c0", payload())
    if isinstance(trial.subject, Traced):
        await _exported(trial.subject)
    subscribers, seconds = (200, 1.5) if trial.quick else (1000, 10)
    await trial.load.open(trial.subject, await trial.subject.audience("c0", subscribers), subscribers)
    try:
        await paced(trial, "c0", subscribers, rate=RATE, seconds=0.5)
        return await paced(trial, "c0", subscribers, rate=RATE, seconds=seconds)
    finally:
        await trial.load.close()


async def _exported(subject: Traced) -> None:
    """Waits for spans at the sink.

    Raises:
        Failed: none came, so that tracing is not on.
    """
    deadline = asyncio.get_running_loop().time() + EXPORT_SECONDS
    while not subject.sink.exports:
        if asyncio.get_running_loop().time() > deadline:
            raise Failed(f"the platform exports no spans: none of {WARM_UP} publications reached the sink")
        await asyncio.sleep(0.1)


CASE = Case(
    name="tracing",
    title="Traces, sampled at 1 %",
    about=(
        "Fan-out at a pace, as above, with OpenTelemetry's variables naming a sink on this machine and one trace in a "
        "hundred sampled, beside the same with traces off."
    ),
    subjects=("platform-traced", "platform"),
    figures=(
        Figure("cpu_us", "server's CPU per delivery, µs"),
        Figure("store_us", "store's CPU per delivery, µs"),
        Figure("p50_ms", "latency p50, ms"),
        Figure("p99_ms", "latency p99, ms"),
    ),
    run=run,
    targets=(Target("cpu_us", against="platform", at_most=1.1),),
)
