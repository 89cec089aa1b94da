"""What the fan-out cases share: payloads with their time, publishing at a pace, and the cost of what was delivered.

It is the measuring, not a case; how many subscribers and how fast, the cases say.
"""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from benchmarks.case import Figures, Trial
from benchmarks.generator import Seen
from benchmarks.measure import cpu_ns, idle

PAYLOAD_BYTES = 200
BATCH = 200
"""So many messages are published at once in bursts."""
PACE = 20.0
"""Messages a second, where they come at a pace."""
WARM_UP_SECONDS = 0.5
SETTLE_SECONDS = 3.0
"""At most; with ten thousand connections nobody is ever quite idle."""
QUIET_SECONDS = 45.0
"""How long the last delivery of a run may take. What has not come then is lost, and the run fails."""


class Lost(Exception):
    """Not everything that was published came to everybody: a subject that loses messages is not measured."""


def payload(size: int = PAYLOAD_BYTES, *, due_ns: int = 0) -> bytes:
    """A JSON object of this size that says when it was made, or when it was due."""
    stamp = b'{"t":%d,"text":"' % (due_ns or time.monotonic_ns())
    return stamp + b"x" * (size - len(stamp) - 2) + b'"}'


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU time in ns: of the server, of its store, and of the load generator."""

    server: int
    store: int
    generator: int


@asynccontextmanager
async def subscribed(trial: Trial, channel: str, clients: int) -> AsyncIterator[None]:
    """So many subscribers, and a server that is done with letting them in; they say goodbye at the end."""
    subject = trial.subject
    await trial.load.open(subject, await subject.audience(channel, clients), clients)
    try:
        await idle([*subject.processes, *subject.store], SETTLE_SECONDS)
        yield
    finally:
        await trial.load.close()


class Watch:
    """What is seen and spent from `begin` to `end`."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial

    async def begin(self) -> None:
        """From here on it counts."""
        self._generator = (await self._trial.load.begin()).cpu_ns
        self._server, self._store = self._used()

    async def end(self, deliveries: int, seconds: float = QUIET_SECONDS) -> tuple[Seen, Spent]:
        """Once so many deliveries came.

        Raises:
            Lost: they did not, or not in time.
        """
        seen = await self._trial.load.wait(deliveries, seconds)
        server, store = self._used()
        if seen.deliveries != deliveries or seen.lost:
            raise Lost(f"{seen.deliveries} deliveries of {deliveries}, {seen.lost} connections lost ({seen.why})")
        return seen, Spent(server - self._server, store - self._store, seen.cpu_ns - self._generator)

    def _used(self) -> tuple[int, int]:
        return cpu_ns(self._trial.subject.processes), cpu_ns(self._trial.subject.store)


async def paced(trial: Trial, channel: str, subscribers: int, *, rate: float, seconds: float) -> Figures:
    """Publishes on one channel at a pace, and tells what each delivery cost and how long it took.

    A latency begins when the publication was due: a server that keeps its publisher waiting pays for it.
    """
    watch, publications = Watch(trial), round(rate * seconds)
    await watch.begin()
    start = time.monotonic_ns()
    for number in range(publications):
        due_ns = start + round(number / rate * 1e9)
        await asyncio.sleep((due_ns - time.monotonic_ns()) / 1e9)
        await trial.subject.publish(channel, payload(due_ns=due_ns))
    seen, spent = await watch.end(publications * subscribers)
    return costs(seen, spent) | {"p50_ms": seen.latency.p50 / 1e6, "p99_ms": seen.latency.p99 / 1e6}


async def at_a_pace(
    trial: Trial, subscribers: int, *, seconds: float, rate: float = PACE, warm_up: float = WARM_UP_SECONDS
) -> Figures:
    """`paced` on one channel with so many subscribers, once the server is warm."""
    async with subscribed(trial, "c0", subscribers):
        await paced(trial, "c0", subscribers, rate=rate, seconds=warm_up)
        return await paced(trial, "c0", subscribers, rate=rate, seconds=seconds)


async def scattered(trial: Trial, channels: int, *, seconds: float) -> Figures:
    """`bursts` on channels at random among so many, with one subscriber each."""
    chance = random.Random(7)  # noqa: S311  # the same channels for every subject
    async with subscribed(trial, "c{n}", channels):
        return await bursts(
            trial, lambda: [f"c{chance.randrange(channels)}" for _ in range(BATCH)],
            deliveries_each=1, seconds=seconds, warm=5,
        )  # fmt: skip


async def bursts(
    trial: Trial, batch: Callable[[], Sequence[str]], *, deliveries_each: int, seconds: float, warm: int = 1
) -> Figures:
    """Publishes a batch (of one message on each channel that ``batch`` names), waits until all of it is delivered, and
    so on for so many seconds. Tells how many deliveries came a second, of time and of the server's CPU, and their cost.
    """
    for _ in range(warm):
        await _burst(trial, Watch(trial), batch(), deliveries_each)
    watch, busy_ns, due = Watch(trial), 0, 0
    await watch.begin()
    while busy_ns < seconds * 1e9:
        channels = batch()
        due += len(channels) * deliveries_each
        began = time.monotonic_ns()
        await trial.subject.publish_batch([(channel, payload()) for channel in channels])
        seen = await trial.load.wait(due, QUIET_SECONDS)
        if seen.deliveries < due:
            break
        busy_ns += seen.first_ns + seen.span_ns - began
    seen, spent = await watch.end(due)
    return costs(seen, spent) | {
        "per_second": seen.deliveries / busy_ns * 1e9,
        "per_core": seen.deliveries / spent.server * 1e9,
        "generator_share": spent.generator / busy_ns,
        "p99_ms": seen.latency.p99 / 1e6,
    }


async def _burst(trial: Trial, watch: Watch, channels: Sequence[str], deliveries_each: int) -> None:
    await watch.begin()
    await trial.subject.publish_batch([(channel, payload()) for channel in channels])
    await watch.end(len(channels) * deliveries_each)


def exponent(costs_by_size: Mapping[int, float]) -> float:
    """How a total cost grows with size, as the exponent of the size: the slope of a line through the logarithms."""
    slope, _ = statistics.linear_regression(
        [math.log(size) for size in costs_by_size], [math.log(cost) for cost in costs_by_size.values()]
    )
    return slope


def costs(seen: Seen, spent: Spent) -> dict[str, float]:
    """The figures that every fan-out has."""
    return {
        "cpu_us": spent.server / seen.deliveries / 1000,
        "store_us": spent.store / seen.deliveries / 1000,
        "generator_us": spent.generator / seen.deliveries / 1000,
        "bytes": seen.bytes / seen.deliveries,
    }
