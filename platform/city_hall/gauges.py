"""Figures that nobody counts while serving, asked for when somebody scrapes: the store, the inboxes, the fleet.

Asking takes one round to Valkey. While that is away the answer says so, and leaves out what only Valkey knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from foundations.errors import CityError
from foundations.telemetry import Exposition, LoopLag, histogram
from foundations.valkey import Valkey
from smart_city.post_office.fleet import Fleet
from smart_city.post_office.inbox import Inbox
from smart_city.post_office.inbox.questions import Circuit, InboxStatus
from smart_city.post_office.keep import Keep

CIRCUIT: Mapping[Circuit, int] = {"closed": 0, "half_open": 1, "open": 2}


class Gauges:
    """Everything on ``/metrics`` that is measured; with what is counted it makes the page."""

    def __init__(
        self, exposition: Exposition, *, valkey: Valkey, inbox: Inbox, fleet: Fleet, keep: Keep, loop_lag: LoopLag,
        version: str,
    ) -> None:  # fmt: skip
        self._exposition = exposition
        self._valkey = valkey
        self._inbox = inbox
        self._fleet = fleet
        self._keep = keep
        self._loop_lag = loop_lag
        self._version = version

    async def render(self, accept: str = "") -> tuple[bytes, str]:
        """The whole page and its content type."""
        return self._exposition.render(accept, [*self._own(), *await self._stored()])

    def _own(self) -> Iterator[Metric]:
        """What this instance knows for itself."""
        info = GaugeMetricFamily("smart_city_info", "Always 1; says which version this is.", labels=["version"])
        info.add_metric([self._version], 1)
        yield info
        yield histogram(
            "event_loop_lag_seconds", "How late the event loop was for what was due.", self._loop_lag.seconds
        )
        yield histogram(
            "valkey_round_trip_seconds", "How long Valkey took to answer, with the way.", self._valkey.round_trips
        )
        yield CounterMetricFamily(
            "valkey_failures", "Commands that Valkey did not answer in time.", value=self._valkey.failures
        )
        keep = self._keep
        yield GaugeMetricFamily("held_messages", "Messages kept here for Valkey's return.", value=keep.messages)
        yield GaugeMetricFamily("held_bytes", "What those take of HELD_BYTES.", value=keep.bytes)
        yield CounterMetricFamily("held", "Messages that were ever held.", value=keep.taken)
        living = self._fleet.living.values()
        yield GaugeMetricFamily("fleet_instances", "Instances that live, as this one knows it.", value=len(living))
        connections = GaugeMetricFamily(
            "fleet_connections", "Connections of every instance, a few seconds old.", labels=["of_instance"]
        )
        for member in living:
            connections.add_metric([member.instance_id], member.connections)
        yield connections

    async def _stored(self) -> list[Metric]:
        """What only Valkey knows."""
        try:
            found = await asyncio.gather(*(self._inbox.status(channel) for channel in self._inbox.channels))
        except CityError:
            return [_is_up(0)]
        return [_is_up(1), *_inboxes(dict(zip(self._inbox.channels, found, strict=True)))]


def _is_up(value: int) -> Metric:
    return GaugeMetricFamily("valkey_up", "Whether Valkey answered just now.", value=value)


def _inboxes(standing: Mapping[str, InboxStatus]) -> Iterator[Metric]:
    """How each inbox stands, over all instances."""
    figures: dict[str, tuple[str, Callable[[InboxStatus], float]]] = {
        "depth": ("Questions that nobody has dealt with yet.", lambda inbox: inbox.depth),
        "bytes": ("What those take in Valkey.", lambda inbox: inbox.bytes),
        "capacity": ("How many questions fit.", lambda inbox: inbox.capacity),
        "consumers": ("Agents that take from it.", lambda inbox: inbox.consumers),
        "dead_letters": ("Questions kept because nobody would or could answer.", lambda inbox: inbox.dead_letters),
        "circuit": ("Whether it takes questions: 0 all, 1 a few, 2 none for now.", _circuit),
        "oldest_seconds": ("How long the oldest question waits; 0 if none does.", _oldest),
    }
    for name, (text, value) in figures.items():
        family = GaugeMetricFamily(f"post_office_inbox_{name}", text, labels=["channel"])
        for channel, inbox in standing.items():
            family.add_metric([channel], value(inbox))
        yield family


def _circuit(inbox: InboxStatus) -> float:
    return CIRCUIT[inbox.circuit]


def _oldest(inbox: InboxStatus) -> float:
    return inbox.oldest_age_seconds or 0.0
