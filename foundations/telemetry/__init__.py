"""What the platform tells of itself: counters as plain integers, log lines without secrets, trace contexts.

Nothing is exported from here and nothing is configured at import: the integers, the loggers and the
``traceparent`` of the current call are the seams that exporters read.
"""

from foundations.telemetry.counters import BUCKETS, OTHER, Counters, Histogram, Tally
from foundations.telemetry.exposition import Exposition, histogram
from foundations.telemetry.logs import configure_logging, log_event, redacted
from foundations.telemetry.loop_lag import LoopLag
from foundations.telemetry.traces import (
    child_traceparent,
    current_traceparent,
    is_traceparent,
    new_traceparent,
    trace_id_of,
)

__all__ = [
    "BUCKETS", "OTHER", "Counters", "Exposition", "Histogram", "LoopLag", "Tally", "child_traceparent",
    "configure_logging", "current_traceparent", "histogram", "is_traceparent", "log_event", "new_traceparent",
    "redacted", "trace_id_of",
]  # fmt: skip
