"""A place for exported spans: a real server that takes OTLP over HTTP and keeps what comes, decoded.

It answers whatever it is told to answer, so that a collector that fails can be had as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.waiting import until

MOST_BYTES = 8 * 1024 * 1024


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
class SpanReceiver:
    """What has come so far."""

    url: str = ""
    status: str = "200 OK"
    requests: int = 0
    raw: bytes = b""
    spans: list[ReceivedSpan] = field(default_factory=list)

    def named(self, name: str) -> list[ReceivedSpan]:
        return [span for span in self.spans if span.name == name]

    async def first(self, name: str, count: int = 1) -> ReceivedSpan:
        """The first span of this name, once there are so many."""
        await until(lambda: len(self.named(name)) >= count, f"{count} of {name} among {self.spans}", seconds=10)
        return self.named(name)[0]

    def take(self, body: bytes) -> None:
        """Keeps what one request brings."""
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

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one exporter until it leaves."""
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).lower():
                length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
                body = await reader.readexactly(length)
                self.requests += 1
                if self.status.startswith("200"):
                    assert head.startswith(b"post /v1/traces ")
                    self.take(body)
                writer.write(f"HTTP/1.1 {self.status}\r\nContent-Length: 0\r\n\r\n".encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # it has left
        finally:
            writer.close()


@asynccontextmanager
async def span_receiver() -> AsyncIterator[SpanReceiver]:
    """A receiver on a free port of this machine, until the block is left."""
    receiver = SpanReceiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, limit=MOST_BYTES)
    try:
        receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield receiver
    finally:
        server.close()
