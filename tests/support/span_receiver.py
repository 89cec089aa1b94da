"""A place for exported spans: a real server that takes OTLP over HTTP and keeps what comes, decoded."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.span_sink import EXPORT, SpanSink, receiving
from tests.support.waiting import until


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedSpan:
    """One span, as far as tests ask."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    attributes: dict[str, str | int]
    resource: dict[str, str | int]

    @property
    def place(self) -> tuple[str, str]:
        """What a `traceparent` that this span gave says of it."""
        return self.trace_id, self.span_id


@dataclass(slots=True)
class SpanReceiver(SpanSink):
    """What has come so far."""

    raw: bytes = b""
    spans: list[ReceivedSpan] = field(default_factory=list)

    def named(self, name: str) -> list[ReceivedSpan]:
        return [span for span in self.spans if span.name == name]

    async def first(self, name: str, count: int = 1) -> ReceivedSpan:
        """The first span of this name, once there are so many."""
        await until(lambda: len(self.named(name)) >= count, f"{count} of {name} among {self.spans}")
        return self.named(name)[0]

    def take(self, head: bytes, body: bytes) -> None:
        """Keeps what one request brings."""
        assert head.startswith(EXPORT)
        self.raw += body
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = {each.key: each.value.string_value for each in of_resource.resource.attributes}
            self.spans += [
                ReceivedSpan(
                    name=span.name, trace_id=span.trace_id.hex(), span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(), kind=span.kind, resource=dict(resource),
                    attributes={
                        each.key: each.value.string_value or each.value.int_value for each in span.attributes
                    },
                )
                for scope in of_resource.scope_spans
                for span in scope.spans
            ]  # fmt: skip


def span_receiver() -> AbstractAsyncContextManager[SpanReceiver]:
    """A receiver on a free port of this machine, until the block is left."""
    return receiving(SpanReceiver())
