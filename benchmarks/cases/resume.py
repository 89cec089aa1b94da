"""Five thousand connections are lost at once and come back at once, with their ids and from their positions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from benchmarks.callers import call, request
from benchmarks.case import Case, Figure, Figures, Target, Trial
from benchmarks.cities import city
from benchmarks.city import City
from benchmarks.gauges import loop_lag
from benchmarks.processes import Failed
from benchmarks.spending import Spending
from benchmarks.talking import subscribing

CLIENTS, QUICK_CLIENTS = 5_000, 300
CHANNELS = ("guide", "pillar:c0", "pillar:c1")
LOST_SECONDS = 30.0


async def run(trial: Trial) -> Figures:
    """Until the last one is subscribed again; who came back under another id was not resumed."""
    subject = city(trial.subject)
    clients = QUICK_CLIENTS if trial.quick else CLIENTS
    positions = {channel: await _newest(subject, channel) for channel in CHANNELS}
    fresh = replace(
        await subject.audience("c0", 1),
        opening=[subscribing((), **positions)],
        credentials=await subject.sessions(clients),
    )
    await trial.load.open(subject, fresh, clients)
    before = await _ids(subject)
    await trial.load.close(abort=True, keep=True)
    await _nobody_left(subject)
    own = {"connection:{captured}": {"offset": 0, "epoch": ""}, "user:user-{n}": None}
    returning = replace(fresh, path="/ws?resume={captured}", opening=[subscribing((), **positions, **own)])
    lag = await loop_lag(subject)
    await trial.load.begin()
    spending = Spending(subject)
    seen = await trial.load.reopen(subject, returning, clients, at_once=clients)
    figures = spending.each("resume", clients)
    late = (await loop_lag(subject)).since(lag)
    resumed = len(before & await _ids(subject))
    await trial.load.close()
    return figures | {
        "p99": seen.opening_since_start.p99 / 1e9, "all": seen.opening_since_start.max / 1e9,
        "not_resumed": clients - resumed, "lag_p99": late.within(0.99), "lag_most": late.within(1),
    }  # fmt: skip


async def _newest(subject: City, channel: str) -> Mapping[str, Any]:
    found = await subject.call("post_office.get_channel_history", {"channel": channel, "limit": 1})
    return {"offset": found["offset"], "epoch": found["epoch"]}


async def _ids(subject: City) -> set[str]:
    found = await subject.call("post_office.get_connections_by_channel", {"channel": CHANNELS[0]})
    return set(found["connections"])


async def _nobody_left(subject: City) -> None:
    """Waits until the instance knows that all sockets are lost.

    Raises:
        Failed: it does not find out.
    """
    look = request("/health/websocket-gateway", method="GET")
    for _ in range(round(LOST_SECONDS / 0.05)):
        _, body = await call(subject.host, subject.port, look)
        if not json.loads(body)["connections"]:
            return
        await asyncio.sleep(0.05)
    raise Failed("the instance still counts sockets that are gone")


CASE = Case(
    name="resume",
    title="A crowd comes back",
    about=(
        f"{CLIENTS} connections with three subscriptions each lose their sockets at once. Once the instance has "
        "noticed, all come back at the same moment, without any back-off, each resuming its connection and "
        "subscribing from its positions to three channels and its own two logs. Lag is the instance's own measurement "
        "of its event loop, in bounds of buckets."
    ),
    subjects=("platform",),
    channels=2,
    most_rounds=3,
    figures=(
        Figure("p99", "99 % are subscribed again after, s"),
        Figure("all", "all are after, s"),
        Figure("not_resumed", "connections that were not resumed"),
        Figure("resume", "CPU of the platform for each, µs"),
        Figure("resume_store", "CPU of Valkey for each, µs"),
        Figure("lag_p99", "lag of the event loop meanwhile, p99 at most, ms"),
        Figure("lag_most", "the worst lag, at most, ms"),
    ),
    run=run,
    targets=(
        Target("p99", at_most=4), Target("not_resumed", at_most=0), Target("lag_p99", at_most=50),
        Target("lag_most", at_most=250),
    ),
)  # fmt: skip
