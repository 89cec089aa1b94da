"""A channel's cost as its subscribers become more, at the same number of deliveries a second."""

from __future__ import annotations

from benchmarks.case import Case, Figure, Figures, Target, Trial
from benchmarks.fan_out import at_a_pace, exponent

SIZES = (100, 1_000, 9_000)
DELIVERIES_PER_SECOND = 20_000.0


async def run(trial: Trial) -> Figures:
    sizes, seconds = (SIZES[:2], 1.0) if trial.quick else (SIZES, 2.0)
    measured = {size: await _at(trial, size, seconds) for size in sizes}
    figures = {f"{name}_{size}": value for size, found in measured.items() for name, value in found.items()}
    a_publication = {size: found["cpu_us"] * size for size, found in measured.items()}
    return figures | {"exponent": exponent(a_publication)}


async def _at(trial: Trial, size: int, seconds: float) -> Figures:
    rate = DELIVERIES_PER_SECOND / size
    return await at_a_pace(trial, size, rate=rate, seconds=seconds, warm_up=1 / rate)


CASE = Case(
    name="growth_subscribers",
    title="Growth: 100, 1 000, 9 000 subscribers",
    about="One channel at 20 000 deliveries a second, whatever its size: 200, 20 and 2.2 messages a second, each by "
    "one call. The exponent is that of what a publication costs, by the number of its subscribers; 1 is as it must be, "
    "less means that a publication's own cost is shared.",
    subjects=("platform", "limit"),
    figures=(
        *(Figure(f"cpu_us_{n}", f"server's CPU per delivery at {n}, µs", at=n, curve="cpu_us") for n in SIZES),
        *(Figure(f"store_us_{n}", f"store's CPU per delivery at {n}, µs", at=n, curve="store_us") for n in SIZES),
        *(Figure(f"p99_ms_{n}", f"latency p99 at {n}, ms", at=n, curve="p99_ms") for n in SIZES),
        Figure("exponent", "exponent of a publication's cost"),
    ),
    targets=tuple(Target(f"cpu_us_{n}", against="limit", at_most=1.8) for n in SIZES),
    run=run,
)
