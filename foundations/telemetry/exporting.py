"""Spans that are exported: the OpenTelemetry SDK with its own variables, and OTLP over HTTP.

The one place that knows OpenTelemetry, and it is imported only where a variable asks for it. Spans leave in a thread
of their own from a bounded queue; where they cannot go, they are lost and nothing else is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from threading import Thread

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace import Span as RecordedSpan
from opentelemetry.trace.propagation import set_span_in_context

from foundations.telemetry.spans import Attributes, Kind, Traces
from foundations.telemetry.traces import child_traceparent, is_sampled, is_traceparent, new_traceparent, trace_id_of

_log = logging.getLogger("smart_city.traces")
_KINDS = {"server": SpanKind.SERVER, "producer": SpanKind.PRODUCER, "consumer": SpanKind.CONSUMER}
_NOWHERE = Context()
"""Without a parent; none at all would be whatever a library has made the current span."""


class ExportedTraces(Traces):
    """Traces of one instance, sampled and exported as the ``OTEL_*`` variables say."""

    is_on = True

    def __init__(self, instance_id: str) -> None:
        own = {SERVICE_NAME: "smart-city", SERVICE_INSTANCE_ID: instance_id}
        told = OTELResourceDetector().detect().attributes
        self._ids = _GivenIds()
        self._provider = TracerProvider(
            resource=Resource.create({**own, **told}), id_generator=self._ids, shutdown_on_exit=False
        )
        self._sampler = self._provider.sampler
        self._exporter = _Exporter(OTLPSpanExporter())
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("smart_city")
        self._started = 0
        for library in ("opentelemetry.exporter", "opentelemetry.sdk"):  # each would tell of every try
            logging.getLogger(library).setLevel(logging.CRITICAL)

    def begin(self, parent: str = "") -> str:
        """As `Traces.begin`; the sampler is asked: 1.7 µs for a new trace, 5 for one that a caller began."""
        if parent and is_traceparent(parent):
            context, above = child_traceparent(parent), _context_of(parent)
        else:
            context, above = new_traceparent(), _NOWHERE
        decision = self._sampler.should_sample(above, int(context[3:35], 16), "").decision
        return context[:-1] + ("1" if decision is Decision.RECORD_AND_SAMPLE else "0")

    def start(
        self, name: str, kind: Kind, attributes: Attributes, *, context: str = "", parent: str = ""
    ) -> _Recorded | None:
        """As `Traces.start`; 20 µs."""
        own = context or child_traceparent(parent)
        if not is_sampled(own):
            return None
        self._ids.trace_id, self._ids.span_id = int(own[3:35], 16), int(own[36:52], 16)
        above = _context_of(parent) if trace_id_of(parent) == own[3:35] else _NOWHERE
        self._started += 1
        return _Recorded(own, self._tracer.start_span(name, above, _KINDS[kind], attributes))

    async def close(self, seconds: float) -> None:
        """Exports what is left, for so long at most; a collector that does not answer holds up no end."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            if not loop.is_closed():
                loop.call_soon_threadsafe(done.set)

        Thread(target=shut_down, name="last spans", daemon=True).start()
        try:
            async with asyncio.timeout(seconds):
                await done.wait()
        except TimeoutError:
            self._exporter.shutdown()  # ends what it is trying again
        if lost := self._started - self._exporter.exported:
            _log.warning("%d of %d spans were not exported, and are lost", lost, self._started)


class _Recorded:
    """A span of the SDK."""

    __slots__ = ("_span", "context")

    def __init__(self, context: str, span: RecordedSpan) -> None:
        self.context = context
        self._span = span

    def end(self, error: str = "") -> None:
        if error:
            self._span.set_attribute("error.type", error)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


class _GivenIds(IdGenerator):
    """The ids of the context that the span is of: it stands in an envelope before there is a span."""

    trace_id = span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id


class _Exporter(SpanExporter):
    """Tells once that spans cannot be exported, and once that they can again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._is_away = False
        self.exported = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(spans)
        except Exception:  # the SDK would log each one; nothing but spans may suffer from where they are to go
            result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            self.exported += len(spans)
            if self._is_away:
                _log.info("spans are exported again")
        elif not self._is_away:
            _log.warning("spans cannot be exported, and are lost until they can: see OTEL_EXPORTER_OTLP_ENDPOINT")
        self._is_away = result is not SpanExportResult.SUCCESS
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _context_of(traceparent: str) -> Context:
    """A context that somebody else began, as the SDK has them."""
    flags = TraceFlags(TraceFlags.SAMPLED if is_sampled(traceparent) else TraceFlags.DEFAULT)
    span = SpanContext(int(traceparent[3:35], 16), int(traceparent[36:52], 16), is_remote=True, trace_flags=flags)
    return set_span_in_context(NonRecordingSpan(span), _NOWHERE)
