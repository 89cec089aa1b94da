"""The platform in other forms than alone as shipped: two instances, over a cluster, with long logs, with its traces on.

Each is the same platform with other settings or more of it around; what they measure is for cases.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from benchmarks.city import City
from benchmarks.fan_out import payload
from benchmarks.processes import children_of
from benchmarks.span_sink import SpanSink, span_sink
from benchmarks.subjects import Missing, Subject
from tests.support.valkey_cluster import ValkeyCluster

OPERATOR = "op_" + "b" * 43
SAMPLED = 500
"""Publications that nobody hears: of so many some are sampled."""
EXPORT_SECONDS = 10.0
"""OpenTelemetry gathers spans for five."""
LONG_LOGS = {"HISTORY_COUNT": "200000", "HISTORY_BYTES": str(1 << 30)}
LARGE_INBOX = {"INBOX_COUNT": "1000000", "INBOX_BYTES": str(1 << 30), "INBOX_USER_SHARE": "1"}
"""An inbox that takes what a case asks before somebody takes it out again."""


class TwoInstances(City):
    """Two instances that share a Valkey. Users are on the first one, the agent is on the second."""

    name = "platform, two instances"

    async def _open(self, stack: AsyncExitStack) -> None:
        await super()._open(stack)
        program, self._agents_url = await self._instance()
        self.processes = [*self.processes, program.pid, *children_of(program.pid)]


class OnCluster(City):
    """One instance over a Valkey cluster of three primaries, as durable as its own Valkey is."""

    name = "platform, on a cluster"

    async def _open(self, stack: AsyncExitStack) -> None:
        cluster = stack.enter_context(ValkeyCluster(appendonly="yes"))
        self._settings |= {"VALKEY_URL": cluster.url, "OPERATOR_TOKEN": OPERATOR}
        await super()._open(stack)
        self.store = [node.pid for node in cluster.nodes]
        self.nodes = [node.url for node in cluster.nodes]


class Traced(City):
    """One instance that exports a hundredth of its traces to a sink on this machine."""

    name = "platform, traced"

    async def _open(self, stack: AsyncExitStack) -> None:
        self.sink: SpanSink = await stack.enter_async_context(span_sink())
        self._environment |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.sink.url, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01",
        }  # fmt: skip
        await super()._open(stack)
        await self._exported()

    async def _exported(self) -> None:
        """Publishes so much that some of it is sampled, and waits for spans at the sink.

        Raises:
            Missing: none came, so that tracing is not on.
        """
        for _ in range(SAMPLED):
            await self.publish("c0", payload())
        deadline = asyncio.get_running_loop().time() + EXPORT_SECONDS
        while not self.sink.exports:
            if asyncio.get_running_loop().time() > deadline:
                raise Missing(f"the platform exports no spans: none of {SAMPLED} publications reached the sink")
            await asyncio.sleep(0.1)


def city(subject: Subject) -> City:
    """The subject as the platform, for cases that no peer takes part in."""
    if not isinstance(subject, City):
        raise TypeError(f"this case is the platform's, and {subject.name} is none")
    return subject
