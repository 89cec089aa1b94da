"""The fan-out at a pace with traces on, beside the same with traces off."""

from __future__ import annotations

from benchmarks.case import Case, Figure, Figures, Target, Trial
from benchmarks.fan_out import at_a_pace


async def run(trial: Trial) -> Figures:
    """What `cases.fan_out_paced` does; a platform that exports nothing is missing (`cities.Traced`)."""
    subscribers, seconds = (200, 1.5) if trial.quick else (1000, 5.0)
    return await at_a_pace(trial, subscribers, seconds=seconds)


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
