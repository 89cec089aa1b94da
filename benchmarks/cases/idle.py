"""Connections that do nothing but live: what they keep in memory, and what their heartbeats and leases cost."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from benchmarks.case import Case, Figure, Figures, Target, Trial
from benchmarks.cities import city
from benchmarks.city import City
from benchmarks.measure import memory_bytes
from benchmarks.spending import Spending
from benchmarks.store import used_memory
from benchmarks.subjects import Audience
from benchmarks.talking import subscribing

CLIENTS, QUICK_CLIENTS = 9_000, 500
CHANNELS = ("guide", "pillar:c0", "pillar:c1")
WARM_UP = 100
LIVING_SECONDS = 50.0
"""Two heartbeats of each."""
SETTLE_SECONDS = 3.0
"""After the last of them has come or gone: what that needs for a moment is over, and given back."""


async def run(trial: Trial) -> Figures:
    """Memory with them less memory before; CPU a second with them, less that without them."""
    subject = city(trial.subject)
    clients, seconds, settle = (QUICK_CLIENTS, 2.0, 1.0) if trial.quick else (CLIENTS, LIVING_SECONDS, SETTLE_SECONDS)
    empty = await used_memory(subject)
    audience = await _audience(subject, clients)
    session = (await used_memory(subject) - empty) / clients
    await trial.load.open(subject, audience, WARM_UP, group="warm-up")
    await trial.load.close(group="warm-up")
    await asyncio.sleep(settle)
    without = await _living(subject, seconds / 4)
    gateway, store = memory_bytes(subject.processes), await used_memory(subject)
    await trial.load.open(subject, audience, clients)
    await asyncio.sleep(settle)
    kept = {
        "bytes": (memory_bytes(subject.processes) - gateway) / clients,
        "bytes_store": (await used_memory(subject) - store) / clients,
        "session_store": session,
    }
    living = await _living(subject, seconds)
    await trial.load.close()
    share = {name: living[name] - without[name] for name in living}
    return kept | {
        "second": share["second"] / clients,
        "second_store": share["second_store"] / clients,
        "share": (share["second"] + share["second_store"]) / 1e4,
        "share_gateway": share["second"] / 1e4,
        "share_store": share["second_store"] / 1e4,
        "alone": (without["second"] + without["second_store"]) / 1e4,
    }


async def _audience(subject: City, clients: int) -> Audience:
    """Each client is a user of its own; what making their sessions leaves in memory is another instance's."""
    audience = await subject.audience("c0", 1)
    return replace(audience, opening=[subscribing(CHANNELS)], credentials=await subject.sessions(clients, aside=True))


async def _living(subject: City, seconds: float) -> dict[str, float]:
    """CPU a second, in µs."""
    spending = Spending(subject)
    await asyncio.sleep(seconds)
    return spending.each("second", seconds)


FIGURES = (
    Figure("bytes", "memory of the platform for each, bytes"),
    Figure("bytes_store", "memory of Valkey for each, without the session, bytes"),
    Figure("session_store", "memory of Valkey for a session, bytes"),
    Figure("share", "heartbeats and leases of all: % of a core, platform and Valkey"),
    Figure("share_gateway", "the platform's part, % of a core"),
    Figure("share_store", "Valkey's part, % of a core"),
    Figure("second", "a second of one connection: CPU of the platform, µs"),
    Figure("second_store", "a second of one connection: CPU of Valkey, µs"),
    Figure("alone", "the same instance with nobody connected: % of a core"),
)
ABOUT = (
    f"{CLIENTS} users, each with a session and a connection that subscribes to three channels beside its own two logs, "
    "and then only answers pings. Memory is the difference that they make (PSS, used_memory); CPU is that of 50 s "
    "with them, less what the instance spends with nobody connected. Measured once, on a fresh process."
)
CASE = Case(
    name="idle",
    title="Idle connections",
    about=ABOUT,
    subjects=("platform",),
    channels=2,
    most_rounds=1,
    figures=FIGURES,
    run=run,
    targets=(Target("bytes", at_most=12_000), Target("bytes_store", at_most=1_200), Target("share", at_most=1.5)),
)
ON_CLUSTER = replace(
    CASE, name="idle_cluster", title="Idle connections, on a cluster", subjects=("platform-cluster",), targets=(),
    about=f"{ABOUT} Valkey is a cluster of three primaries here, and its figures are those of all of them together.",
)  # fmt: skip
