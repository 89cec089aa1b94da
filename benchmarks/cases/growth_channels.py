"""What a publication to one subscriber costs as the channels among which it may go become more."""

from __future__ import annotations

from benchmarks.case import Case, Figure, Figures, Target, Trial
from benchmarks.fan_out import exponent, scattered

SIZES = (1, 100, 10_000)


async def run(trial: Trial) -> Figures:
    sizes, seconds = (SIZES[:2], 0.2) if trial.quick else (SIZES, 0.6)
    measured = {size: await scattered(trial, size, seconds=seconds) for size in sizes}
    whole = {size: found["cpu_us"] + found["store_us"] for size, found in measured.items()}
    figures = {f"{name}_{size}": value for size, found in measured.items() for name, value in found.items()}
    return figures | {"growth": whole[sizes[-1]] / whole[sizes[0]], "exponent": exponent(whole)}


CASE = Case(
    name="growth_channels",
    title="Growth: 1, 100, 10 000 channels",
    about="200 messages at a time, each on one of so many channels at random, one subscriber each. The exponent is "
    "that of the whole cost of a message (server and store), by the number of channels; 0 is flat.",
    subjects=("platform", "gathered"),
    figures=(
        Figure("growth", "cost of a message at 10 000 channels ÷ at one"),
        *(Figure(f"cpu_us_{n}", f"server's CPU per message at {n}, µs", at=n, curve="cpu_us") for n in SIZES),
        *(Figure(f"store_us_{n}", f"store's CPU per message at {n}, µs", at=n, curve="store_us") for n in SIZES),
        Figure("exponent", "exponent of a message's cost"),
    ),
    targets=(Target("growth", at_most=4.0),),
    channels=SIZES[-1],
    run=run,
)
