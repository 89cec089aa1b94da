"""Counters and their exposition, log lines without secrets, trace contexts."""

from __future__ import annotations

import io
import json
import logging
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from foundations.telemetry import (
    BUCKETS,
    Counters,
    Exposition,
    Histogram,
    child_traceparent,
    configure_logging,
    current_traceparent,
    is_traceparent,
    log_event,
    log_request,
    new_traceparent,
    redacted,
    trace_id_of,
)
from foundations.telemetry.logs import LogFormat

TOKEN = "k3J9xQ-2vLr_8sTnWb4yZc6uHd1eGf5a0oPiMlKjUvY"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    """Leaves the process's logging as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logger.level for name, logger in _loggers()}
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, logger in _loggers():
        logger.setLevel(levels.get(name, logging.NOTSET))


def _loggers() -> list[tuple[str, logging.Logger]]:
    known = logging.getLogger().manager.loggerDict.items()
    return [(name, logger) for name, logger in known if isinstance(logger, logging.Logger)]


def lines_of(log_format: LogFormat = "json", level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    configure_logging(log_format, level, "instance-1", stream=stream)
    return stream


def only_record(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().splitlines()
    record: dict[str, Any] = json.loads(line)
    return record


# Counters


def test_a_duration_falls_into_the_bucket_whose_bound_it_does_not_pass() -> None:
    histogram = Histogram()
    for seconds in (0.0, BUCKETS[0], BUCKETS[0] * 1.01, BUCKETS[-1] * 2):
        histogram.observe(seconds)
    assert (histogram.counts[0], histogram.counts[1], histogram.counts[-1]) == (2, 1, 1)
    assert histogram.count == 4


def test_metrics_have_the_names_that_operators_know() -> None:
    counters = Counters()
    counters.connections_active, counters.connections_total = 2, 5
    counters.messages_sent, counters.messages_received, counters.errors = 7, 3, 1
    counters.channel("guide").latency.observe(0.002)
    counters.operation("post_office.list_channels").count = 4
    counters.operation("post_office.list_channels").refused("forbidden")
    counters.operation("post_office.list_channels").refused("forbidden")
    counters.operation("post_office.list_channels").latency.observe(0.2)
    body, content_type = Exposition(counters).render()
    values = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    assert content_type.startswith("text/plain")
    assert values[("websocket_connections_active",)] == 2
    assert values[("websocket_connections_total",)] == 5
    assert values[("websocket_messages_sent_total",)] == 7
    assert values[("websocket_messages_received_total",)] == 3
    assert values[("websocket_errors_total",)] == 1
    assert values[("websocket_message_latency_seconds_bucket", "0.001")] == 0
    assert values[("websocket_message_latency_seconds_bucket", "0.0025")] == 1
    assert values[("websocket_message_latency_seconds_count",)] == 1
    assert values[("operation_calls_total", "post_office.list_channels")] == 4
    assert values[("operation_refusals_total", "forbidden", "post_office.list_channels")] == 2
    assert values[("operation_latency_seconds_count", "post_office.list_channels")] == 1
    assert ("process_cpu_seconds_total",) in values
    assert ("python_gc_collections_total", "0") in values


def test_two_platforms_in_one_process_count_for_themselves() -> None:
    one, other = Counters(), Counters()
    one.messages_sent = 1
    assert b"websocket_messages_sent_total 1.0" in Exposition(one).render()[0]
    assert b"websocket_messages_sent_total 0.0" in Exposition(other).render()[0]


def test_a_scraper_that_asks_for_openmetrics_gets_them() -> None:
    body, content_type = Exposition(Counters()).render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


# Traces


def test_a_new_trace_is_a_valid_context_of_its_own() -> None:
    one, other = new_traceparent(), new_traceparent()
    assert is_traceparent(one)
    assert trace_id_of(one) != trace_id_of(other)


def test_a_child_keeps_trace_and_flags_and_has_a_span_of_its_own() -> None:
    unsampled = PARENT[:-2] + "00"
    child = child_traceparent(unsampled)
    assert is_traceparent(child)
    assert trace_id_of(child) == TRACE
    assert child.endswith("-00")
    assert child != unsampled


@pytest.mark.parametrize(
    "text",
    [
        "", "x", PARENT.upper(), PARENT + "\n", PARENT[:-1], PARENT + "-more", "ff" + PARENT[2:],
        f"00-{'0' * 32}-00f067aa0ba902b7-01", f"00-{TRACE}-{'0' * 16}-01",
    ],
)  # fmt: skip
def test_what_is_no_context_begins_a_new_trace(text: str) -> None:
    assert not is_traceparent(text)
    assert trace_id_of(text) == ""
    assert trace_id_of(child_traceparent(text)) not in {"", TRACE}


def test_a_context_of_a_later_version_is_continued_in_ours() -> None:
    child = child_traceparent("01" + PARENT[2:] + "-what-comes-later")
    assert child.startswith(f"00-{TRACE}-")
    assert is_traceparent(child)


# Log lines


def test_a_json_line_tells_time_level_logger_event_instance_and_fields() -> None:
    stream = lines_of()
    log_event(logging.getLogger("smart_city.x"), "WebSocket connected", connection_id="c1", active=3)
    record = only_record(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.pop("time"))
    assert record == {
        "level": "info", "logger": "smart_city.x", "event": "WebSocket connected",
        "instance_id": "instance-1", "connection_id": "c1", "active": 3,
    }  # fmt: skip


def test_a_line_inside_a_call_names_its_trace() -> None:
    stream = lines_of()
    token = current_traceparent.set(PARENT)
    log_event(logging.getLogger("smart_city.x"), "told")
    current_traceparent.reset(token)
    assert only_record(stream)["trace_id"] == TRACE


def test_a_text_line_quotes_what_could_be_taken_for_something_else() -> None:
    stream = lines_of("text")
    log_event(logging.getLogger("smart_city.x"), "forged\nline", user_id="a b\nc", channel="pillar:content")
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(r'smart_city.x: forged\nline user_id="a b\nc" channel=pillar:content')


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_traceback_is_told_without_the_tokens_in_it(log_format: LogFormat) -> None:
    stream = lines_of(log_format)
    try:
        raise ValueError(f"cannot use svc_{TOKEN}")
    except ValueError:
        logging.getLogger("smart_city.x").exception("it failed")
    told = stream.getvalue()
    assert "ValueError: cannot use svc_…" in told
    assert TOKEN not in told
    assert (len(told.splitlines()) == 1) == (log_format == "json")


def test_an_event_may_carry_its_exception() -> None:
    stream = lines_of()
    log_event(logging.getLogger("smart_city.x"), "lost", level=logging.WARNING, exc_info=OSError("away"))
    record = only_record(stream)
    assert (record["level"], record["traceback"]) == ("warning", "OSError: away")


def test_what_is_below_the_level_is_not_told() -> None:
    stream = lines_of(level="warning")
    log_event(logging.getLogger("smart_city.x"), "told")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_request_is_told_as_any_other_event(log_format: LogFormat) -> None:
    told: dict[str, Any] = {"method": "GET", "path": f"/x/ses_7f{TOKEN}", "status": 200, "client": "10.0.0.1:5"}
    streams = lines_of(log_format), lines_of(log_format)
    log_request(**told)
    configure_logging(log_format, "info", "instance-1", stream=streams[0])
    log_event(logging.getLogger("uvicorn.access"), "HTTP request", **told)
    lines = [re.sub(r"\d{4}-\S+Z", "NOW", stream.getvalue()) for stream in streams]
    assert lines[0] == lines[1] != ""
    assert TOKEN not in lines[0]


def test_requests_are_told_from_info_on_and_fail_nobody() -> None:
    stream = lines_of(level="warning")
    log_request(path="/x")
    assert stream.getvalue() == ""
    lines_of().close()
    log_request(path="/x")


def test_libraries_are_quiet_unless_somebody_debugs() -> None:
    stream = lines_of()
    logging.getLogger("mcp.server").info("chatter")
    assert stream.getvalue() == ""
    stream = lines_of(level="debug")
    logging.getLogger("mcp.server").info("chatter")
    assert only_record(stream)["event"] == "chatter"


def test_a_second_configuration_replaces_the_first() -> None:
    first, second = lines_of(), lines_of()
    log_event(logging.getLogger("smart_city.x"), "told")
    assert first.getvalue() == ""
    assert only_record(second)["event"] == "told"


def test_without_a_format_a_terminal_gets_text_and_a_file_json() -> None:
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        configure_logging("", "info", "instance-1", stream=stream)
        log_event(logging.getLogger("smart_city.x"), "told")
    assert terminal.getvalue().endswith("smart_city.x: told\n")
    assert only_record(file)["event"] == "told"


@pytest.mark.parametrize(
    "text",
    [
        f"ses_{TOKEN}", f"token.svc_{TOKEN}", f"?t=tkt_{TOKEN}", f"op_{TOKEN}",
        f"Authorization: Bearer {TOKEN}", f"(b'authorization', b'Bearer {TOKEN}')", f"bearer {TOKEN}",
        f"session_token={TOKEN}", f'{{"session_token": "{TOKEN}"}}',
        f"cookie: a=b; session_token={TOKEN}; c=d",
        json.dumps(json.dumps({"session_token": TOKEN})), f"authorization={TOKEN}", f"password = {TOKEN}",
        f"redis://user:{TOKEN}@host:6379/0", f"redis://:{TOKEN}@host", f"GET /ws?anything={TOKEN} HTTP/1.1",
        f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.{TOKEN}",
    ],
)  # fmt: skip
def test_no_secret_is_told(text: str) -> None:
    assert TOKEN not in redacted(f"before {text} after")
    assert redacted(f"before {text} after").startswith("before ")


@pytest.mark.parametrize(
    "text",
    [
        "what is op_8 of stop_something_longer", "is it there? yes, it is", "alice uses /api/health",
        "https://example.org/a/b#c", "12:30:01 WebSocket connected user_id=alice", "basic facts",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize("piece", ["a/", "?a", "=?", "op_ ", "eyJaaaaaaaa.", "bearer ", "password ", "://a:"])
def test_a_long_line_takes_no_longer_than_its_length(piece: str) -> None:
    began = time.process_time()
    redacted(piece * 20_000)
    assert time.process_time() - began < 1.0
