"""What the platform tells of itself: counters as plain integers, log lines without secrets, trace contexts.

Nothing is configured at import: the integers, the loggers, the ``traceparent`` of the current call and the spans that
nobody records are the seams that exporters read. OpenTelemetry is imported when `traces_of` is asked for it.
"""

from foundations.telemetry.counters import BUCKETS, OTHER, Counters, Histogram, Tally
from foundations.telemetry.exposition import Exposition, histogram
from foundations.telemetry.logs import configure_logging, log_event, log_request, redacted
from foundations.telemetry.loop_lag import LoopLag
from foundations.telemetry.spans import Span, Traces
from foundations.telemetry.traces import (
    child_traceparent,
    current_traceparent,
    is_sampled,
    is_traceparent,
    new_traceparent,
    trace_id_of,
)
from foundations.telemetry.tracing import traces_of

__all__ = [
    "BUCKETS", "OTHER", "Counters", "Exposition", "Histogram", "LoopLag", "Span", "Tally", "Traces",
    "child_traceparent", "configure_logging", "current_traceparent", "histogram", "is_sampled", "is_traceparent",
    "log_event", "log_request", "new_traceparent", "redacted", "trace_id_of", "traces_of",
]  # fmt: skip
