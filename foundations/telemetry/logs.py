"""Log lines: one record a line, as text or as JSON, with RFC 3339 times and without anybody's secrets.

Every line passes `redacted` as its last step, so that a token cannot slip out through an argument, a driver's
message or a traceback. It is no audit trail and ships nothing anywhere: lines go to standard error.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal, TextIO

from foundations.telemetry.traces import current_traceparent, trace_id_of

LogFormat = Literal["", "text", "json"]

_FIELDS = "event_fields"
_encode = json.JSONEncoder(default=str, ensure_ascii=False).encode
_QUIET = ("asyncio", "httpcore", "httpcore2", "httpx", "httpx2", "mcp", "uvicorn.error")
"""Libraries that tell at ``info`` what is of interest only to somebody who debugs them."""


@dataclass(frozen=True, slots=True)
class _Secret:
    """What a kind of secret looks like. ``marks``, in small letters, are what a text without it does not have."""

    marks: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: str


_SECRETS: tuple[_Secret, ...] = (
    _Secret(
        ("ses_", "svc_", "tkt_", "op_"),
        re.compile(r"(?<![A-Za-z0-9])(ses|svc|tkt|op)_[A-Za-z0-9_-]{8,}"), r"\1_…",
    ),
    _Secret(("eyj",), re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"), "…"),
    _Secret(
        ("bearer", "basic"), re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"), r"\1 …",
    ),
    _Secret(
        ("authorization", "_token", "password"),
        re.compile(r"""(?ix) (authorization | session_token | access_token | operator_token | password)
                       (\\?["'])? \s* ([:=]) \s* (b?\\?["'])?  (?!(?:bearer|basic)\s) [^\s"'&,;)}\\]+"""),
        r"\1\2\3\4…",
    ),
    _Secret(("://",), re.compile(r"(://[^\s/:@]*:)[^\s/@]+@"), r"\1…@"),
    _Secret(("?",), re.compile(r"(?<=[\w/.~-])\?[^\s\"'\\?=]{1,128}=[^\s\"'\\]*"), ""),
)  # fmt: skip
"""Our tokens, JWTs, credentials in headers, in assignments and in URLs, and at last every query string."""


_MARKS = tuple(mark for secret in _SECRETS for mark in secret.marks)
"""What a text has none of has no secret: that is known in 1 µs, where the patterns take 75."""


def redacted(text: str) -> str:
    """``text`` without tokens, passwords and query strings."""
    small = text.lower()
    for mark in _MARKS:
        if mark in small:
            return _replaced(text, small)
    return text


def _replaced(text: str, small: str) -> str:
    for secret in _SECRETS:
        if any(mark in small for mark in secret.marks):
            text = secret.pattern.sub(secret.replacement, text)
    return text


def log_event(
    logger: logging.Logger,
    event: str,
    /,
    *,
    level: int = logging.INFO,
    exc_info: BaseException | bool | None = None,
    **fields: object,
) -> None:
    """Logs that ``event`` happened, with its circumstances as fields."""
    if logger.isEnabledFor(level):
        logger.log(level, "%s", event, exc_info=exc_info, extra={_FIELDS: fields}, stacklevel=2)


def configure_logging(
    log_format: LogFormat, level: str, instance_id: str, *, stream: TextIO | None = None
) -> logging.Handler:
    """Sends all logging to standard error, in the platform's format; a second call replaces the first one's.

    An empty format means text on a terminal, else JSON. uvicorn is to be started with ``log_config=None``.
    """
    stream = stream or sys.stderr
    text = log_format == "text" or (not log_format and stream.isatty())
    handler = _CityHandler(stream)
    handler.setFormatter(TextFormatter(instance_id) if text else JsonFormatter(instance_id))
    root = logging.getLogger()
    for earlier in [found for found in root.handlers if isinstance(found, _CityHandler)]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "debug" else logging.WARNING)
    logging.captureWarnings(True)
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # no line tells them
    return handler


class _CityHandler(logging.StreamHandler[TextIO]):
    """Marks the handler as ours, to be found again."""


class _LineFormatter(logging.Formatter, ABC):
    """What both formats share: the time, the fields, and redaction as the last step."""

    def __init__(self, instance_id: str) -> None:
        super().__init__()
        self._instance_id = instance_id

    def format(self, record: logging.LogRecord) -> str:
        event, fields = _told(record)
        if (traceparent := current_traceparent.get()) and (trace_id := trace_id_of(traceparent)):
            fields = {**fields, "trace_id": trace_id}
        return redacted(self._line(record, event, fields))

    @abstractmethod
    def _line(self, record: logging.LogRecord, event: str, fields: Mapping[str, object]) -> str:
        """The record in this format, not yet redacted."""


class JsonFormatter(_LineFormatter):
    """One JSON object a record: time, level, logger, event, instance_id, the fields, and a traceback."""

    def _line(self, record: logging.LogRecord, event: str, fields: Mapping[str, object]) -> str:
        told: dict[str, object] = {
            "time": _rfc3339(record.created), "level": record.levelname.lower(), "logger": record.name,
            "event": event, "instance_id": self._instance_id, **fields,
        }  # fmt: skip
        if trace := _traceback(record):
            told["traceback"] = trace
        return _encode(told)


class TextFormatter(_LineFormatter):
    """For a person at a terminal: ``TIME LEVEL logger: event name=value``, a traceback indented below it."""

    def _line(self, record: logging.LogRecord, event: str, fields: Mapping[str, object]) -> str:
        pairs = "".join(f" {name}={_shown(value)}" for name, value in fields.items())
        line = f"{_rfc3339(record.created)} {record.levelname:<7} {record.name}: {_one_line(event)}{pairs}"
        trace = _traceback(record)
        return line + "".join(f"\n    {row}" for row in trace.splitlines())


def _told(record: logging.LogRecord) -> tuple[str, Mapping[str, object]]:
    """The event and its fields; uvicorn's access records are taken apart, and lose their query strings."""
    if record.name == "uvicorn.access" and isinstance(record.args, tuple) and len(record.args) == 5:
        client, method, target, _version, status = record.args
        path = str(target).partition("?")[0]
        return "HTTP request", {"method": method, "path": path, "status": status, "client": client}
    return record.getMessage(), getattr(record, _FIELDS, {})


def _traceback(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[0] is None:
        return ""
    return "".join(traceback.format_exception(*record.exc_info)).rstrip()


def _rfc3339(seconds: float) -> str:
    whole, milliseconds = divmod(int(seconds * 1000 + 0.0005), 1000)  # a float of today is that exact
    return f"{_written_out(whole)}.{milliseconds:03d}Z"


@lru_cache(maxsize=2)
def _written_out(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _one_line(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")


def _shown(value: object) -> str:
    text = str(value)
    return text if re.fullmatch(r"[\w.:/@~|+-]+", text) else json.dumps(text, ensure_ascii=False)
