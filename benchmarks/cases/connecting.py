"""Coming in: fresh connections one after the other, each with its session checked and written into the registry."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from benchmarks.case import Case, Figure, Figures, Target, Trial
from benchmarks.city import City
from benchmarks.spending import Spending
from benchmarks.subjects import Audience, Subject
from benchmarks.talking import WELCOME

CLIENTS, QUICK_CLIENTS = 3_000, 500
AT_ONCE = 64
LEFT_SECONDS = 1.5
"""A connection is gone from the registry within a second of its close."""


async def run(trial: Trial) -> Figures:
    """All come in, at most `AT_ONCE` under way at a time, and leave again."""
    clients = QUICK_CLIENTS if trial.quick else CLIENTS
    audience = await _audience(trial.subject, clients)
    await trial.load.begin()
    coming = Spending(trial.subject)
    seen = await trial.load.open(trial.subject, audience, clients, at_once=AT_ONCE)
    figures = coming.each("connect", clients)
    leaving = Spending(trial.subject)
    await trial.load.close()
    await asyncio.sleep(LEFT_SECONDS)
    return figures | leaving.each("leave", clients) | {"p99": seen.opening.p99 / 1e6}


async def _audience(subject: Subject, clients: int) -> Audience:
    """On the platform each is a user of its own, and in once it is welcome: its own two logs it hears by then."""
    if not isinstance(subject, City):
        return await subject.audience("c0", clients)
    audience = await subject.audience("c0", 1)
    return replace(audience, opening=(), ready=WELCOME, credentials=await subject.sessions(clients))


CASE = Case(
    name="connecting",
    title="Connecting",
    about=(
        f"{CLIENTS} clients connect, at most {AT_ONCE} of them under way at a time. The platform checks each one's "
        "session, counts its limits, registers it in Valkey and subscribes it to its own two logs; the peers check "
        "and keep nothing, and subscribe it to a channel."
    ),
    subjects=("platform", "nchan", "nats", "socketio"),
    figures=(
        Figure("connect_a_second", "connections a second and core", "more"),
        Figure("connect", "CPU to connect, µs"),
        Figure("connect_store", "CPU of Valkey to connect, µs"),
        Figure("p99", "p99 of connecting, ms"),
        Figure("leave", "CPU to leave, µs"),
        Figure("leave_store", "CPU of Valkey to leave, µs"),
    ),
    most_rounds=3,
    run=run,
    targets=(Target("connect_a_second", at_least=3_000),),
)
