"""The counters in Prometheus' words: a collector on a registry of its own, read when `/metrics` is asked for.

It keeps no figures itself and registers nothing globally, so that several platforms fit into one process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from foundations.telemetry.counters import BUCKETS, Counters, Histogram

_TOTALS: tuple[tuple[str, str, str], ...] = (
    ("websocket_connections", "connections_total", "WebSocket connections since the start."),
    ("websocket_lags", "lags", "How often a WebSocket connection did not keep up, and was fed from the logs."),
    ("event_streams", "event_streams_total", "Event streams since the start."),
    ("websocket_messages_sent", "messages_sent", "Frames sent to WebSocket clients."),
    ("websocket_messages_received", "messages_received", "Frames received from WebSocket clients."),
    ("websocket_errors", "errors", "Errors answered to WebSocket clients."),
    ("post_office_appended", "appended", "Publications appended to channel logs."),
    ("post_office_deliveries", "deliveries", "Messages delivered to agents, each attempt counted."),
    ("post_office_answers", "answers", "Answers that agents completed."),
    ("post_office_dead_letters", "dead_letters", "Messages that no agent would or could answer."),
    ("post_office_circuits_opened", "circuits_opened", "Times that the circuit of an inbox opened."),
)

_INFINITE = float("inf")
_SHOWN = frozenset(
    (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, _INFINITE)
)
"""Every other bound or so: each one is a time series of every operation and instance."""


class Exposition(Collector):
    """Shows `Counters`, the interpreter and the process as Prometheus metrics.

    Every sample carries the instance's id: the workers of one address answer scrapes in turn, and each has figures
    of its own.
    """

    def __init__(self, counters: Counters, instance_id: str = "") -> None:
        self._counters = counters
        self._labels = {"instance_id": instance_id} if instance_id else {}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def render(self, accept: str = "", measured: Iterable[Metric] = ()) -> tuple[bytes, str]:
        """The metrics and their content type, in the format that the ``Accept`` header prefers.

        ``measured`` are families that were asked for, and not counted.
        """
        encode, content_type = choose_encoder(accept)
        return encode(_Page([*self._registry.collect(), *measured], self._labels)), content_type

    def collect(self) -> Iterator[Metric]:
        """Called by the registry for every scrape."""
        counters = self._counters
        yield GaugeMetricFamily(
            "websocket_connections_active", "WebSocket connections now.", value=counters.connections_active
        )
        yield GaugeMetricFamily(
            "websocket_connections_lagging", "Connections that do not keep up now.", value=counters.connections_lagging
        )
        yield GaugeMetricFamily("event_streams_active", "Event streams now.", value=counters.event_streams_active)
        yield GaugeMetricFamily(
            "listeners_active", "Streams of changes for MCP clients now.", value=counters.listeners_active
        )
        for name, attribute, text in _TOTALS:
            yield CounterMetricFamily(name, text, value=getattr(counters, attribute))
        yield histogram(
            "websocket_message_latency_seconds",
            "From a message's arrival to its acknowledgement.",
            counters.latency,
        )
        yield histogram("websocket_handshake_seconds", "From a handshake to its welcome.", counters.handshakes)
        yield _by("websocket_refusals", "Handshakes refused, by error code.", "code", counters.handshake_refusals)
        yield _by("websocket_closes", "WebSocket connections closed, by close code.", "code", counters.closes)
        yield _by("http_responses", "HTTP responses, by status.", "status", counters.responses)
        yield from self._operations()

    def _operations(self) -> Iterator[Metric]:
        calls = CounterMetricFamily("operation_calls", "Calls of operations.", labels=["operation"])
        refusals = CounterMetricFamily(
            "operation_refusals", "Calls that ended with an error, by its code.", labels=["operation", "code"]
        )
        latency = HistogramMetricFamily(
            "operation_latency_seconds", "How long calls of operations took.", labels=["operation"]
        )
        for name, figures in sorted(self._counters.operations.items()):
            calls.add_metric([name], figures.count)
            latency.add_metric([name], _cumulated(figures.latency), figures.latency.total)
            for code, count in sorted(figures.refusals.items()):
                refusals.add_metric([name, code], count)
        yield from (calls, refusals, latency)


class _Page(Collector):
    """One scrape: families as they were collected, with labels that all samples get."""

    def __init__(self, families: Iterable[Metric], labels: Mapping[str, str]) -> None:
        self._families = families
        self._labels = labels

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            labelled = Metric(family.name, family.documentation, family.type, family.unit)
            labelled.samples = [
                sample._replace(labels={**sample.labels, **self._labels}) for sample in family.samples
            ]  # fmt: skip
            yield labelled


def histogram(name: str, text: str, figures: Histogram) -> Metric:
    """A family of one histogram."""
    family = HistogramMetricFamily(name, text)
    family.add_metric([], _cumulated(figures), figures.total)
    return family


def _by(name: str, text: str, label: str, counts: Mapping[Any, int]) -> Metric:
    """A family of counters, one for each value of a label."""
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([str(value)], count)
    return family


def _cumulated(histogram: Histogram) -> list[tuple[str, float]]:
    """Prometheus' buckets contain all smaller ones."""
    cumulated = zip((*BUCKETS, _INFINITE), accumulate(histogram.counts), strict=True)
    return [(str(bound) if bound < _INFINITE else "+Inf", count) for bound, count in cumulated if bound in _SHOWN]
